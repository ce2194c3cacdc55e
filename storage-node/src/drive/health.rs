//! What a drive may be used for, as the drive itself knows it, with a channel that tells others.

use stele_types::map::DriveState;
use tokio::sync::watch;

/// State and reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// What it may be used for.
    pub state: DriveState,
    /// Why it is not `Ok`; empty otherwise.
    pub reason: String,
    /// Goes away only with a restart: an IO error, or a missing directory.
    sticky: bool,
}

/// The cell of one drive. Health only gets worse, except that a drive which did not answer may
/// answer again.
#[derive(Debug)]
pub(crate) struct HealthCell(watch::Sender<Health>);

fn rank(state: DriveState) -> u8 {
    match state {
        DriveState::Ok => 0,
        DriveState::Suspect => 1,
        DriveState::Failed => 2,
        DriveState::Removed => 3,
    }
}

impl Health {
    pub(crate) fn good() -> Self {
        Self { state: DriveState::Ok, reason: String::new(), sticky: false }
    }

    /// Takes new records.
    pub fn writable(&self) -> bool {
        self.state == DriveState::Ok
    }

    /// Reads may be tried.
    pub fn readable(&self) -> bool {
        matches!(self.state, DriveState::Ok | DriveState::Suspect)
    }
}

impl HealthCell {
    pub(crate) fn new(health: Health) -> Self {
        Self(watch::Sender::new(health))
    }

    pub(crate) fn now(&self) -> Health {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }

    fn worsen(&self, state: DriveState, reason: &str, sticky: bool) {
        self.0.send_if_modified(|health| {
            let worse = rank(state) > rank(health.state);
            let firmer = rank(state) == rank(health.state) && sticky && !health.sticky;
            if worse || firmer {
                *health = Health { state, reason: reason.to_owned(), sticky };
            }
            worse || firmer
        });
    }

    /// An IO error: no more writes until a restart.
    pub(crate) fn suspect(&self, reason: &str) {
        self.worsen(DriveState::Suspect, reason, true);
    }

    /// It is gone.
    pub(crate) fn fail(&self, reason: &str) {
        self.worsen(DriveState::Failed, reason, true);
    }

    /// It did not answer in time.
    pub(crate) fn silent(&self, reason: &str) {
        self.worsen(DriveState::Suspect, reason, false);
    }

    /// It answered again.
    pub(crate) fn answered(&self) {
        self.0.send_if_modified(|health| {
            let silent = health.state == DriveState::Suspect && !health.sticky;
            if silent {
                *health = Health::good();
            }
            silent
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_is_forgiven() {
        let cell = HealthCell::new(Health::good());
        cell.silent("slow");
        assert_eq!(cell.now().state, DriveState::Suspect);
        cell.answered();
        assert_eq!(cell.now(), Health::good());
        cell.silent("slow");
        cell.suspect("EIO");
        cell.answered();
        assert_eq!((cell.now().state, cell.now().reason.as_str()), (DriveState::Suspect, "EIO"));
        cell.fail("gone");
        cell.suspect("EIO");
        assert_eq!(cell.now().state, DriveState::Failed);
    }
}
