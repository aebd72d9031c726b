//! The token of the API: who may see sessions and end them.
//!
//! Owns: how it is given and compared. What a secret may be is as for publish keys, and again only its digest is kept.

use std::ops::RangeInclusive;

use super::{Problem, publish_key::PublishKey, source::Given, value::Value};

/// The token that opens the API; none keeps it closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiToken(Option<PublishKey>);

impl ApiToken {
    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether `shown` is it. Takes the same time for every wrong one.
    #[must_use]
    pub fn allows(&self, shown: &str) -> bool {
        self.0.as_ref().is_some_and(|token| token.matches(shown))
    }
}

/// No message repeats the token.
impl Value for ApiToken {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let problem = |text: String| vec![Problem::new(given.origin.clone(), text)];
        let text = given
            .text()
            .ok_or_else(|| problem("*** is not text".to_owned()))?;
        self.0 = if text.is_empty() {
            None
        } else {
            let token = PublishKey::new(text);
            Some(token.map_err(|error| problem(format!("the token *** {error}")))?)
        };
        Ok(())
    }

    fn write(&self) -> String {
        let shown = if self.is_set() { "***" } else { "" };
        format!("\"{shown}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Sources, load};

    #[test]
    fn only_the_token_opens() {
        let config = load(Mode::Serve, &sources("marker-token-4711"))
            .expect("valid")
            .config;
        let token = config.auth.api_token;
        assert!(token.is_set() && token.allows("marker-token-4711"));
        for wrong in ["", "marker-token-471", "marker-token-47111", "***"] {
            assert!(!token.allows(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "ApiToken(Some(***))");
        let none = load(Mode::Serve, &sources("")).expect("valid").config;
        assert!(!none.auth.api_token.is_set() && !none.auth.api_token.allows(""));
    }

    #[test]
    fn bad_tokens_are_refused_and_good_ones_never_shown() {
        for (token, reason) in [
            ("short", "the token *** has to be 8 to 128 characters long"),
            ("changeme-123", "the token *** is a placeholder"),
            ("api-token-1", "the token *** is a placeholder"),
            ("marker token", "the token *** may hold only"),
        ] {
            let problems = load(Mode::Serve, &sources(token)).expect_err(token);
            let said = problems[0].to_string();
            assert!(said.contains(reason) && !said.contains(token), "{said}");
        }
        let loaded = load(Mode::Serve, &sources("marker-token-4711")).expect("valid");
        let shown = loaded.to_toml();
        assert!(
            shown.contains("api_token = \"***\"") && !shown.contains("marker"),
            "{shown}"
        );
    }

    fn sources(token: &str) -> Sources {
        Sources {
            environment: [("WEIR_AUTH_API_TOKEN".to_owned(), token.to_owned())].into(),
            ..Sources::default()
        }
    }
}
