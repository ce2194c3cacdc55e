//! Tags, retention and legal hold in the model: what keeps a version is worked out here by its own rule.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use stele_rpc::meta::{ChangeVersion, NewRetention, VersionChange};
use stele_types::object::{Lock, ObjectLock, Retention, RetentionMode};

use super::super::tags::tags;
use super::*;

/// A change of one version in place.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) key: u8,
    /// Which of its versions, oldest first.
    at: u8,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Tags(u8),
    /// With dates as ms from now.
    Retention(Option<Retention>, bool),
    LegalHold(bool),
}

fn retention() -> impl Strategy<Value = Retention> {
    let mode = prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)];
    (mode, 1..100u64).prop_map(|(mode, until)| Retention { mode, until })
}

/// Mostly none; dates as ms from now.
pub(super) fn lock() -> impl Strategy<Value = Lock> {
    prop_oneof![
        3 => Just(Lock::default()),
        1 => (proptest::option::of(retention()), proptest::option::of(any::<bool>()))
            .prop_map(|(retention, legal_hold)| Lock { retention, legal_hold }),
    ]
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let what = prop_oneof![
        1 => (0..4u8).prop_map(What::Tags),
        2 => (proptest::option::of(retention()), any::<bool>()).prop_map(|(new, bypass)| What::Retention(new, bypass)),
        1 => any::<bool>().prop_map(What::LegalHold),
    ];
    (0..4u8, 0..3u8, what).prop_map(|(key, at, what)| Change { key, at, what })
}

/// The rule, once more: a hold keeps; a date keeps while it lies ahead, governance not against a bypass.
fn keeps(lock: &Lock, now: u64, bypass: bool) -> bool {
    let ahead = |retention: Retention| retention.until > now;
    lock.legal_hold == Some(true)
        || match lock.retention {
            None => false,
            Some(retention) if retention.mode == RetentionMode::Compliance => ahead(retention),
            Some(retention) => ahead(retention) && !bypass,
        }
}

fn may_become(old: Option<Retention>, new: Option<Retention>, now: u64, bypass: bool) -> bool {
    let Some(old) = old else { return true };
    let later = new.is_some_and(|new| new.mode == old.mode && new.until >= old.until);
    old.until <= now || later || (bypass && old.mode == RetentionMode::Governance)
}

impl Run {
    /// Commit time of the next command.
    pub(super) fn next_now(&self) -> u64 {
        self.m.now + 1 + self.wait
    }

    fn ahead(&self, retention: Retention) -> Retention {
        Retention { until: self.next_now() + retention.until, ..retention }
    }

    pub(super) fn with_dates_from_now(&self, lock: Lock) -> Lock {
        Lock { retention: lock.retention.map(|retention| self.ahead(retention)), ..lock }
    }

    fn null_is_kept(&self, key: &str, bypass: bool) -> bool {
        let versions = self.model.keys.get(key);
        let null = versions.and_then(|versions| versions.iter().find(|version| version.null));
        null.is_some_and(|null| keeps(&null.lock, self.next_now(), bypass))
    }

    /// A new version would take the place of a null version that is kept.
    pub(super) fn keeps_from_overwriting(&self, key: &str) -> bool {
        self.model.versioning != Versioning::Enabled && self.null_is_kept(key, false)
    }

    /// After the delete was sent: whether what it would remove is kept.
    pub(super) fn kept_by_lock(&self, key: &str, selector: VersionSelector, bypass: bool) -> bool {
        let versions = self.model.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let target = match (selector, self.model.versioning) {
            (VersionSelector::Current, Versioning::Enabled) => None,
            (VersionSelector::Current, Versioning::Unset) => versions.last(),
            (VersionSelector::Current, Versioning::Suspended) | (VersionSelector::Null, _) => {
                versions.iter().find(|version| version.null)
            }
            (VersionSelector::Id(id), _) => versions.iter().find(|version| version.id == id),
        };
        target.is_some_and(|version| keeps(&version.lock, self.m.now, bypass))
    }

    /// Switches object lock on, as the command does, and keeps the configuration epoch, so that guards hold.
    /// That nothing suspends versioning afterwards is not relied on here.
    pub(super) fn lock(&mut self) {
        let key = crate::keyspace::bucket(self.b);
        let mut row: stele_types::object::BucketRow =
            crate::rows::load(&*self.m.kv.view().unwrap(), &key).unwrap().unwrap();
        (row.versioning, row.object_lock) = (Versioning::Enabled, Some(ObjectLock::default()));
        self.m.kv.write(&mut |txn| txn.put(&key, &crate::rows::encode(&row))).unwrap();
        (self.model.versioning, self.model.object_lock) = (Versioning::Enabled, true);
    }

    fn change_of(&self, key: &str, version: VersionSelector, change: VersionChange) -> Command {
        let (guard, key) = (guard(self.b, 1), key.to_owned());
        Command::ChangeVersion(Box::new(ChangeVersion { guard, key, version, change }))
    }

    pub(super) fn change(&mut self, key: &str, change: &Change) {
        let at = usize::from(change.at);
        let Some(version) = self.model.keys.get(key).and_then(|versions| versions.get(at)).cloned() else { return };
        let (selector, now) = (VersionSelector::Id(version.id), self.next_now());
        let mut changed = version.clone();
        let (command, event, allowed) = match &change.what {
            What::Tags(n) => {
                changed.tags = tags(&[("n", &n.to_string())]);
                let command = tags::put_tags(self.b, key, selector, &changed.tags);
                (command, None, true)
            }
            What::Retention(new, bypass) => {
                changed.lock.retention = new.map(|new| self.ahead(new));
                let retention = changed.lock.retention;
                let salt = Salt::from_bytes(self.m.draws.bytes());
                let change = VersionChange::Retention(NewRetention { retention, bypass: *bypass, salt });
                let allowed = may_become(version.lock.retention, retention, now, *bypass);
                (self.change_of(key, selector, change), Some(Event::Retention), allowed)
            }
            What::LegalHold(on) => {
                changed.lock.legal_hold = Some(*on);
                let salt = Salt::from_bytes(self.m.draws.bytes());
                let change = VersionChange::LegalHold { on: *on, salt };
                (self.change_of(key, selector, change), Some(Event::LegalHold), true)
            }
        };
        let refusal = match () {
            () if event.is_some() && !self.model.object_lock => Some(Code::NoObjectLock),
            () if version.marker => Some(Code::DeleteMarker),
            () if !allowed => Some(Code::Locked),
            () => None,
        };
        match self.send(command) {
            Ok(MetaReply::Changed(_)) => {
                assert_eq!(refusal, None, "{change:?} of {version:?} at {now}");
                if let Some(event) = event {
                    self.model.events.push((event, key.to_owned(), changed.lock));
                }
                self.model.keys.get_mut(key).unwrap()[at] = changed;
            }
            Err(error) => assert_eq!(Some(error.code), refusal, "{change:?} of {version:?} at {now}: {error}"),
            other => panic!("{other:?}"),
        }
    }
}

/// I-6: removals that ignore retention and legal hold are noticed by the histories above.
#[cfg(feature = "sabotage")]
#[test]
fn accepting_removals_of_locked_versions_is_found() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    let config = ProptestConfig { rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let broken = ApplyOptions { locked_versions_removed: true, ..ApplyOptions::default() };
    let found = (0..100).find(|_| {
        let ops = ops().new_tree(&mut runner).unwrap().current();
        history(&ops, ApplyOptions::default());
        catch_unwind(AssertUnwindSafe(|| history(&ops, broken))).is_err()
    });
    assert!(found.is_some(), "100 histories did not notice");
}
