//! Purging our tables of people whose deletion Klaviyo has accepted: a part of the runner's work, a piece at a time.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::attempt;
use crate::inbound;
use crate::outbox::purge::{self, Others, Pass};
use crate::pull;

/// Before it looks again for somebody, while the runner has other work.
const LOOK: Duration = Duration::from_secs(5);

/// Before it tries again what has failed.
const AGAIN: Duration = Duration::from_secs(60);

/// What is not the outbox's.
const OTHERS: Others = Others {
    webhook_events: inbound::retention::purge,
    profiles: pull::purge::profiles,
    events: pull::purge::events,
};

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purging {
    Nothing,
    Piece,
    /// Others are in the way, or it has failed; it is tried again.
    Later,
}

/// Whom it works for, and when it may look again.
#[derive(Default)]
pub struct Purger {
    pass: Option<Pass>,
    again_at: Option<Instant>,
    /// There is somebody, for whom nothing can be done just now.
    later: bool,
    /// What it has failed for, and the log knows of.
    failing: Option<String>,
}

impl Purger {
    /// Does a piece, if there is one.
    pub fn work(&mut self) -> Purging {
        if self.again_at.is_some_and(|at| Instant::now() < at) {
            return if self.later { Purging::Later } else { Purging::Nothing };
        }
        let piece = self.piece();
        self.later = !matches!(piece, Ok(Purging::Nothing | Purging::Piece));
        match piece {
            Ok(Purging::Piece) => {
                // At the end of a pass: each that fails begins well.
                if self.pass.is_none() {
                    self.failing = None;
                }
                Purging::Piece
            }
            Ok(other) => {
                self.again_at = Some(Instant::now() + LOOK);
                other
            }
            Err(error) => {
                self.pass = None;
                self.again_at = Some(Instant::now() + AGAIN);
                if self.failing.as_ref() != Some(&error) {
                    log!(
                        "klaviyo_sync: our tables cannot be purged of people whose data was to be deleted, which is tried again: {error}"
                    );
                    self.failing = Some(error);
                }
                Purging::Later
            }
        }
    }

    fn piece(&mut self) -> Result<Purging, String> {
        let Some(pass) = &mut self.pass else {
            if !attempt(c"looking for people to purge", |_| true, purge::is_due)? {
                return Ok(Purging::Nothing);
            }
            self.pass = attempt(c"looking for people to purge", |_| true, Pass::begin)?;
            return Ok(if self.pass.is_some() { Purging::Piece } else { Purging::Later });
        };
        let reached = attempt(c"purging", |_| true, || pass.piece(&OTHERS))?;
        pass.go_on(reached);
        if pass.is_done() {
            self.pass = None;
        }
        Ok(Purging::Piece)
    }
}
