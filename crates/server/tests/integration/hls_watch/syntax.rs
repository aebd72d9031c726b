//! The words of a playlist: attribute lists, numbers, dates (draft-pantos-hls-rfc8216bis, section 4).
//!
//! Owns: their strict forms. Does not own: which tag has which attribute ([`super::media`], [`super::multivariant`]).

/// Years begin in March, so that the leap day is the last one: days from there to the Unix epoch.
const DAYS_TO_EPOCH: i64 = 719_469;

/// The attribute list of a tag, each attribute once. What is taken is known; [`Attributes::finish`] refuses the rest.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    tag: &'a str,
    left: Vec<(&'a str, Value<'a>)>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Quoted(&'a str),
    Bare(&'a str),
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(tag: &'a str, mut text: &'a str) -> Result<Self, String> {
        let mut left: Vec<(&str, Value<'_>)> = Vec::new();
        let broken = |what: &str| format!("H1: {tag}: {what}");
        loop {
            let (name, rest) = text.split_once('=').ok_or_else(|| broken("no `=`"))?;
            let named = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(named) {
                return Err(broken(&format!("{name:?} is no attribute name")));
            }
            if left.iter().any(|(known, _)| *known == name) {
                return Err(broken(&format!("{name} twice")));
            }
            let (value, rest) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let (value, rest) = quoted.split_once('"').ok_or_else(|| broken("no end"))?;
                    (Value::Quoted(value), rest)
                }
                None => {
                    let (value, rest) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                    let written = |c: char| !c.is_whitespace() && c != '"';
                    if value.is_empty() || !value.chars().all(written) {
                        return Err(broken(&format!("{name} is {value:?}")));
                    }
                    (Value::Bare(value), rest)
                }
            };
            left.push((name, value));
            match rest.strip_prefix(',') {
                Some(rest) => text = rest,
                None if rest.is_empty() => return Ok(Self { tag, left }),
                None => return Err(broken(&format!("{rest:?} behind {name}"))),
            }
        }
    }

    /// A quoted string.
    pub(super) fn quoted(&mut self, name: &str) -> Result<Option<&'a str>, String> {
        match self.take(name) {
            Some(Value::Bare(value)) => Err(self.broken(&format!("{name}={value} has no quotes"))),
            Some(Value::Quoted(value)) => Ok(Some(value)),
            None => Ok(None),
        }
    }

    /// A value without quotes that `read` understands.
    pub(super) fn bare<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.take(name) {
            Some(Value::Bare(value)) => {
                let broken = || self.broken(&format!("{name} is {value}"));
                read(value).map(Some).ok_or_else(broken)
            }
            Some(Value::Quoted(value)) => Err(self.broken(&format!("{name}={value:?} is quoted"))),
            None => Ok(None),
        }
    }

    /// `YES` or `NO`; without it `NO`.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        let read = |text: &str| match text {
            "YES" => Some(true),
            "NO" => Some(false),
            _ => None,
        };
        self.bare(name, read).map(|flag| flag.unwrap_or(false))
    }

    /// An attribute that the tag must have.
    pub(super) fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| self.broken(&format!("no {name}")))
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.left.first() {
            Some((name, _)) => Err(self.broken(&format!("{name} is not known"))),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.left.iter().position(|(known, _)| *known == name)?;
        Some(self.left.remove(at).1)
    }

    fn broken(&self, what: &str) -> String {
        format!("H1: {}: {what}", self.tag)
    }
}

/// A decimal integer of up to 64 bits.
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Microseconds of a decimal number of seconds, and how many decimals it was written with.
pub(super) fn seconds(text: &str) -> Option<(i64, usize)> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if text.ends_with('.') || (!decimals.is_empty() && integer(decimals).is_none()) {
        return None;
    }
    let micros: String = decimals.chars().chain("000000".chars()).take(6).collect();
    let whole = i64::try_from(integer(whole)?)
        .ok()?
        .checked_mul(1_000_000)?;
    Some((whole.checked_add(micros.parse().ok()?)?, decimals.len()))
}

/// Microseconds of a decimal number of seconds.
pub(super) fn micros(text: &str) -> Option<i64> {
    seconds(text).map(|(micros, _)| micros)
}

/// Milliseconds since the epoch of `2026-11-21T11:05:18.193Z`; an offset such as `+0100` or `+01:00` may stand for `Z`.
pub(crate) fn date_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (time, zone) = time.split_at(time.find(['Z', '+', '-'])?);
    let (time, millis) = time.split_once('.')?;
    let [hour, minute, second] = numbers(time, ':')?[..] else {
        return None;
    };
    if millis.len() != 3 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day
        - DAYS_TO_EPOCH;
    let minutes = (days * 24 + hour) * 60 + minute - zone_minutes(zone)?;
    Some((minutes * 60 + second) * 1_000 + numbers(millis, ' ')?[0])
}

fn zone_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = zone.split_at(1);
    let digits = digits.replacen(':', "", 1);
    let value = numbers(&digits, ' ').filter(|_| digits.len() == 4)?[0];
    let minutes = value / 100 * 60 + value % 100;
    Some(if sign == "-" { -minutes } else { minutes })
}

fn numbers(text: &str, mark: char) -> Option<Vec<i64>> {
    let number = |text| integer(text).and_then(|number| i64::try_from(number).ok());
    text.split(mark).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_lists_are_strict() {
        let good = "URI=\"a,b=c\",INDEPENDENT=YES,DURATION=0.5";
        let mut list = Attributes::parse("X", good).expect("it is good");
        assert_eq!(list.quoted("URI"), Ok(Some("a,b=c")));
        assert_eq!(list.flag("INDEPENDENT"), Ok(true));
        assert_eq!(list.bare("DURATION", micros), Ok(Some(500_000)));
        assert_eq!(list.finish(), Ok(()));
        for (text, expected) in [
            ("", "no `=`"),
            ("A", "no `=`"),
            ("A=1,", "no `=`"),
            ("a=1", "\"a\" is no attribute name"),
            ("A=1, B=2", "\" B\" is no attribute name"),
            ("A=1,A=2", "A twice"),
            ("A=\"1", "no end"),
            ("A=\"1\"2", "\"2\" behind A"),
            ("A=", "A is \"\""),
            ("A=1 ", "A is \"1 \""),
        ] {
            let problem = Attributes::parse("X", text).expect_err(text);
            assert_eq!(problem, format!("H1: X: {expected}"), "{text}");
        }
        let mut list = Attributes::parse("X", "A=1,B=\"2\",C=MAYBE,D=3").expect("it is good");
        assert_eq!(list.quoted("A"), Err("H1: X: A=1 has no quotes".into()));
        assert_eq!(
            list.bare("B", integer),
            Err("H1: X: B=\"2\" is quoted".into())
        );
        assert_eq!(list.flag("C"), Err("H1: X: C is MAYBE".into()));
        assert_eq!(list.finish(), Err("H1: X: D is not known".into()));
    }

    #[test]
    fn numbers_and_dates() {
        for (text, expected) in [
            ("2.005333", Some((2_005_333, 6))),
            ("2", Some((2_000_000, 0))),
            ("0.33333333", Some((333_333, 8))),
            ("2.", None),
            (".5", None),
            ("-1.0", None),
            ("1.2.3", None),
            ("99999999999999999999.0", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for (text, expected) in [
            ("2024-02-29T23:59:59.193Z", Some(1_709_251_199_193)),
            ("2024-03-01T00:59:59.193+0100", Some(1_709_251_199_193)),
            ("2024-02-29T22:59:59.193-01:00", Some(1_709_251_199_193)),
            ("2024-02-29T23:59:59.193", None),
            ("2024-02-29T23:59:59Z", None),
            ("2024-13-29T23:59:59.193Z", None),
            ("2024-02-29 23:59:59.193Z", None),
            ("2024-02-29T23:59:59.193+01", None),
        ] {
            assert_eq!(date_ms(text), expected, "{text}");
        }
    }
}
