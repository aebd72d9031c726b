//! Writing shared bytes to many sockets at once.
//!
//! Owns: the viewers of one feed that are up to date, in shards, one task each: with each wake it writes the same bytes to
//! all of them, directly, so that a viewer costs one system call a wake and no task of its own is woken. Whoever takes
//! less than all, meets another epoch or wants to go gets itself back, and comes again when it has caught up.
//! Does not own: what a viewer does by itself (its head, its protocol, its end).

use std::{
    cell::OnceCell,
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use rustix::{
    io::{Errno, writev},
    net::{SendFlags, send},
};
use tokio::{net::TcpStream, runtime::Handle, sync::Notify};
use weir_hub::{Cursor, LagLimit, Meter};
use weir_media::Epoch;
use weir_proto::websocket;

use super::Shared;
use crate::net::{Burst, tasks::Tasks};

/// Viewers of a shard before another one is begun: fewer are not worth a task of their own.
const SHARD_LEN_MIN: usize = 64;
/// Sockets that are written to in one turn, some hundred microseconds; then other tasks get theirs.
const TURN_LEN: usize = 64;

/// How a protocol wraps shared bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Not at all.
    Bare,
    /// Each item is a binary message (RFC 6455).
    WebSocket,
}

impl Framing {
    /// Appends bytes as they are wrapped.
    pub(crate) fn put(self, bytes: Bytes, burst: &mut Burst) {
        if self == Self::WebSocket && !bytes.is_empty() {
            burst.push(websocket::binary_header(bytes.len()));
        }
        burst.push(bytes);
    }
}

/// The viewers of one feed that are up to date.
#[derive(Debug)]
pub(crate) struct Fanout {
    shards: Box<[Arc<Shard>]>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Shard {
    joining: Mutex<Joining>,
    /// Somebody joins or wants to leave.
    woken: Notify,
    /// Members, those that join included.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Joining {
    members: Vec<Member>,
    /// Whether the shard has a task.
    runs: bool,
}

/// What a viewer and its shard share.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<TcpStream>,
    framing: Framing,
    meter: Meter,
    wants_back: AtomicBool,
    returned: Mutex<Option<io::Result<Returned>>>,
    /// Something is in `returned`.
    changed: Notify,
}

/// What a viewer gets back.
#[derive(Debug)]
pub(crate) struct Returned {
    /// The sequence number of the item that it goes on with.
    pub(crate) place: u64,
    /// What is to be written before.
    pub(crate) rest: Burst,
}

/// A viewer while its shard serves it. Dropping it ends that.
pub(crate) struct Served {
    link: Arc<Link>,
    shard: Arc<Shard>,
}

#[derive(Debug)]
struct Member {
    link: Arc<Link>,
    place: u64,
    epoch: Arc<Epoch>,
}

impl Link {
    /// A viewer that is written to through `socket`, and counted by `meter`.
    pub(crate) fn new(socket: Arc<TcpStream>, framing: Framing, meter: Meter) -> Arc<Self> {
        Arc::new(Self {
            socket,
            framing,
            meter,
            wants_back: AtomicBool::new(false),
            returned: Mutex::new(None),
            changed: Notify::new(),
        })
    }

    fn give_back(&self, returned: io::Result<Returned>) {
        *self.returned.lock() = Some(returned);
        self.changed.notify_one();
    }
}

impl Fanout {
    /// Nobody is served; a shard for each worker of the runtime that this is called on, at most.
    pub(crate) fn new(tasks: Tasks) -> Arc<Self> {
        let workers = Handle::current().metrics().num_workers();
        Arc::new(Self {
            shards: (0..workers.max(1)).map(|_| Arc::default()).collect(),
            tasks,
        })
    }

    /// Serves a viewer that has read everything up to `place` of the feed of `cursor`, and knows `epoch`. Until it is
    /// returned, nobody else writes to its socket.
    pub(crate) fn enter(
        &self,
        link: &Arc<Link>,
        cursor: &Cursor<Shared>,
        place: u64,
        epoch: Arc<Epoch>,
        lag: LagLimit,
    ) -> Served {
        link.wants_back.store(false, Ordering::Relaxed);
        let shard = self.shard();
        shard.len.fetch_add(1, Ordering::Relaxed);
        let mut joining = shard.joining.lock();
        joining.members.push(Member {
            link: Arc::clone(link),
            place,
            epoch,
        });
        if joining.runs {
            shard.woken.notify_one();
        } else {
            joining.runs = true;
            let cursor = cursor.feed().cursor_at(place, lag);
            self.tasks.spawn(run(Arc::clone(shard), cursor));
        }
        drop(joining);
        Served {
            link: Arc::clone(link),
            shard: Arc::clone(shard),
        }
    }

    /// The emptiest of as many shards as are worth their tasks.
    fn shard(&self) -> &Arc<Shard> {
        let lens = || {
            self.shards
                .iter()
                .map(|shard| shard.len.load(Ordering::Relaxed))
        };
        let worth = 1 + lens().sum::<usize>() / SHARD_LEN_MIN;
        let emptiest = lens().take(worth).enumerate().min_by_key(|&(_, len)| len);
        let at = emptiest.map_or(0, |(at, _)| at);
        self.shards.get(at).expect("there is one at least")
    }
}

impl Served {
    /// Waits until the viewer is returned. Cancel-safe.
    ///
    /// # Errors
    /// Its socket failed.
    pub(crate) async fn returned(&self) -> io::Result<Returned> {
        loop {
            if let Some(returned) = self.link.returned.lock().take() {
                return returned;
            }
            self.link.changed.notified().await;
        }
    }

    /// As [`Self::returned`], as soon as can be.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn leave(&self) -> io::Result<Returned> {
        self.ask_back();
        self.returned().await
    }

    fn ask_back(&self) {
        self.link.wants_back.store(true, Ordering::Relaxed);
        self.shard.woken.notify_one();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ask_back();
    }
}

/// Serves the members of a shard until there are none.
async fn run(shard: Arc<Shard>, mut cursor: Cursor<Shared>) {
    let (mut members, mut items) = (Vec::new(), Vec::new());
    loop {
        items.clear();
        let more = tokio::select! {
            biased;
            more = cursor.next(&mut items) => more,
            () = shard.woken.notified() => Some(0),
        };
        members.append(&mut shard.joining.lock().members);
        let (Some(skipped), Some(end)) = (more, cursor.place()) else {
            // The feed has ended, or this task was so late that it lost its place: each finds its own.
            return shard.dissolve(members);
        };
        let (batch, before, mut at) = (Batch::new(&items, end, skipped), members.len(), 0);
        while let Some(member) = members.get_mut(at) {
            if batch.serve(member) {
                at += 1;
                if at.is_multiple_of(TURN_LEN) {
                    tokio::task::yield_now().await;
                }
            } else {
                members.swap_remove(at);
            }
        }
        let left = before - members.len();
        shard.len.fetch_sub(left, Ordering::Relaxed);
        if members.is_empty() && shard.retires() {
            return;
        }
    }
}

impl Shard {
    /// Whether nobody joins, so that the task may end.
    fn retires(&self) -> bool {
        let mut joining = self.joining.lock();
        joining.runs = !joining.members.is_empty();
        !joining.runs
    }

    /// Returns everybody.
    fn dissolve(&self, mut members: Vec<Member>) {
        let mut joining = self.joining.lock();
        members.append(&mut joining.members);
        joining.runs = false;
        drop(joining);
        self.len.fetch_sub(members.len(), Ordering::Relaxed);
        members.into_iter().for_each(Member::give_back);
    }
}

impl Member {
    fn give_back(self) {
        let returned = Returned {
            place: self.place,
            rest: Burst::default(),
        };
        self.link.give_back(Ok(returned));
    }
}

/// What one wake writes.
struct Batch<'a> {
    items: &'a [Shared],
    /// The sequence number of the first item.
    start: u64,
    /// How many items are missing before it.
    skipped: u64,
    /// Whether all items belong to one epoch.
    is_uniform: bool,
    bare: Vec<IoSlice<'a>>,
    /// Header and bytes of each item, once somebody wants them.
    messages: OnceCell<Vec<Bytes>>,
}

impl<'a> Batch<'a> {
    fn new(items: &'a [Shared], end: u64, skipped: u64) -> Self {
        let is_uniform = items
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if Epoch::same(&a.epoch, &b.epoch)));
        Self {
            items,
            start: end - items.len() as u64,
            skipped,
            is_uniform,
            bare: items.iter().map(|item| IoSlice::new(&item.bytes)).collect(),
            messages: OnceCell::new(),
        }
    }

    /// Writes to a member; false when it is returned.
    fn serve(&self, member: &mut Member) -> bool {
        let link = &member.link;
        if link.wants_back.load(Ordering::Relaxed) {
            return self.returns(member, Burst::default());
        }
        if member.place + self.skipped == self.start && self.skipped > 0 {
            link.meter.add_skipped(self.skipped);
            member.place = self.start;
        }
        let Some(from) = member.place.checked_sub(self.start) else {
            // It joined with less than this task has read.
            return self.returns(member, Burst::default());
        };
        // More than this task has read: the next wakes have it.
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let Some(first) = self.items.get(from) else {
            return true;
        };
        if !self.is_uniform || !Epoch::same(&first.epoch, &member.epoch) {
            return self.returns(member, Burst::default());
        }
        self.write(member, from)
    }

    fn write(&self, member: &mut Member, from: usize) -> bool {
        let link = &member.link;
        let (written, len) = match link.framing {
            Framing::Bare => {
                let slices = self.bare.get(from..).unwrap_or_default();
                (write(&link.socket, slices), len(slices))
            }
            Framing::WebSocket => {
                let slices: Vec<IoSlice<'_>> = self
                    .messages(from)
                    .map(|bytes| IoSlice::new(bytes))
                    .collect();
                (write(&link.socket, &slices), len(&slices))
            }
        };
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                link.give_back(Err(error));
                return false;
            }
        };
        link.meter.add_bytes(len as u64);
        member.place = self.start + self.items.len() as u64;
        if written == len {
            return true;
        }
        let mut rest = Burst::default();
        match link.framing {
            Framing::Bare => {
                let items = self.items.iter().skip(from);
                items.for_each(|item| rest.push(item.bytes.clone()));
            }
            Framing::WebSocket => self
                .messages(from)
                .cloned()
                .for_each(|bytes| rest.push(bytes)),
        }
        rest.advance(written);
        self.returns(member, rest)
    }

    fn messages(&self, from: usize) -> impl Iterator<Item = &Bytes> {
        let messages = self.messages.get_or_init(|| {
            let message = |item: &Shared| {
                let header = websocket::binary_header(item.bytes.len());
                [header, item.bytes.clone()]
            };
            self.items.iter().flat_map(message).collect()
        });
        messages.iter().skip(2 * from)
    }

    fn returns(&self, member: &Member, rest: Burst) -> bool {
        member.link.give_back(Ok(Returned {
            place: member.place,
            rest,
        }));
        false
    }
}

/// As much as the socket takes now. Whoever is served here took everything last time, so the runtime's notes on whether
/// it takes more are not asked: they are one more miss of the cache for each viewer.
fn write(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let written = match slices {
        [one] => send(socket, one, SendFlags::NOSIGNAL),
        _ => writev(socket, slices),
    };
    match written {
        Err(Errno::WOULDBLOCK) => Ok(0),
        written => Ok(written?),
    }
}

fn len(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

#[cfg(test)]
mod tests;
