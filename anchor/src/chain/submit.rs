//! Carries the steps of one chain out, one at a time. May be dropped at any await: what was begun stands in the row
//! before it is sent, and the next run asks the chain what became of it.

use std::time::Duration;

use stele_rpc::meta::TreeHead;
use tokio::sync::watch;

use super::backend::{Chain, ChainError, Terms};
use super::state::{ChainState, Fee, Growth, Hash, Intent, Kept, StateError};
use super::steps::{Refusal, Released, Rules, Step, Waiting, next_step};
use super::store::{ChainStore, StoreError};

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The row could not be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row can't be used.
    #[error("the row of the chain can't be used: {0}")]
    State(#[from] StateError),
    /// Nothing may be decided.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl SubmitError {
    /// True if nothing will change until somebody has looked.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Chain(error) => error.is_final(),
            Self::Store(_) => false,
            Self::State(_) => true,
            Self::Refused(refusal) => matches!(refusal, Refusal::Forked { .. }),
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Nothing is to be done before something changes.
    Waited(Waiting),
    /// An intent was kept; it is not sent yet.
    Begun(TreeHead),
    /// A higher offer was kept; it is not sent yet.
    Bumped(Fee),
    /// A transaction was handed in.
    Sent,
    /// The proof of this checkpoint is kept.
    Anchored(TreeHead),
    /// The intent is over without effect.
    Released(Released),
    /// Another anchor changed the row; look again.
    Overtaken,
}

/// Takes checkpoints of one log to one chain.
#[derive(Debug)]
pub struct Submitter<C, S> {
    chain: C,
    store: S,
    rules: Rules,
    /// The row as it stands in the store; `None`: it has to be loaded.
    row: Option<(u64, ChainState)>,
}

impl<C: Chain, S: ChainStore> Submitter<C, S> {
    /// Nothing is read or sent before the first step.
    pub fn new(chain: C, store: S, rules: Rules) -> Self {
        Self { chain, store, rules, row: None }
    }

    /// What is remembered, once the first step has loaded it.
    pub fn state(&self) -> Option<&ChainState> {
        self.row.as_ref().map(|(_, state)| state)
    }

    /// Does what is next. `newest`: the newest signed checkpoint.
    ///
    /// # Durability
    /// Begun, Bumped, Anchored, Released: the row is kept.
    ///
    /// # Errors
    /// [`SubmitError`]; what was begun is never lost by one.
    pub async fn step(&mut self, newest: Option<TreeHead>) -> Result<Done, SubmitError> {
        let (sequence, state) = match self.row.take() {
            Some(row) => row,
            None => self.load().await?,
        };
        self.row = Some((sequence, state.clone()));
        if state.intent.is_none() && newest.is_none() {
            return Ok(Done::Waited(Waiting::Nothing));
        }
        let view = self.chain.look(state.intent.as_ref()).await?;
        let step = next_step(&state, newest, &view, self.rules)?;
        self.carry_out(sequence, state, step).await
    }

    async fn carry_out(&mut self, sequence: u64, mut state: ChainState, step: Step) -> Result<Done, SubmitError> {
        match step {
            Step::Wait(waiting) => Ok(Done::Waited(waiting)),
            Step::Begin { growth, nonce, fee } => {
                let candidates = vec![self.chain.sign(growth, Terms { nonce, fee, gas: None }).await?];
                state.intent = Some(Intent { growth, nonce, candidates });
                self.save(sequence, state, Done::Begun(growth.head)).await
            }
            Step::Bump { fee } => {
                let Some(intent) = &mut state.intent else { return Ok(Done::Overtaken) };
                let Intent { growth, nonce, .. } = *intent;
                let gas = intent.candidates.last().map(|candidate| candidate.gas);
                let candidate = self.chain.sign(growth, Terms { nonce, fee: Some(fee), gas }).await?;
                intent.candidates.push(candidate);
                self.save(sequence, state, Done::Bumped(fee)).await
            }
            Step::Send { candidate } => {
                let found = state.intent.as_ref().and_then(|intent| intent.candidates.get(candidate));
                let Some(candidate) = found else { return Ok(Done::Overtaken) };
                self.chain.send(candidate).await?;
                Ok(Done::Sent)
            }
            Step::Capture { candidate, height } => {
                let Some(intent) = state.intent.take() else { return Ok(Done::Overtaken) };
                let Some(candidate) = intent.candidates.get(candidate) else { return Ok(Done::Overtaken) };
                self.keep(intent.growth.head, candidate.id).await?;
                state.kept = Some(Kept { head: intent.growth.head, height });
                self.save(sequence, state, Done::Anchored(intent.growth.head)).await
            }
            Step::Adopt { head } => {
                let Some((id, height)) = self.chain.find(head).await? else {
                    return Ok(Done::Waited(Waiting::Finality));
                };
                self.keep(head, id).await?;
                state.kept = Some(Kept { head, height });
                self.save(sequence, state, Done::Anchored(head)).await
            }
            Step::Release(why) => {
                let Some(Intent { growth: Growth { head, .. }, .. }) = state.intent.take() else {
                    return Ok(Done::Overtaken);
                };
                let mut done = Done::Released(why);
                if let Some((id, height)) = self.chain.find(head).await? {
                    self.keep(head, id).await?;
                    state.kept = Some(Kept { head, height });
                    done = Done::Anchored(head);
                }
                self.save(sequence, state, done).await
            }
        }
    }

    async fn load(&self) -> Result<(u64, ChainState), SubmitError> {
        let place = self.chain.place();
        Ok(match self.store.load().await? {
            Some((sequence, row)) => (sequence, ChainState::decode(&row, &place)?),
            None => (0, ChainState::new(place)),
        })
    }

    async fn keep(&self, head: TreeHead, id: Hash) -> Result<(), SubmitError> {
        let proof = self.chain.capture(head, id).await?;
        Ok(self.store.keep(head, proof).await?)
    }

    /// Replaces the row. Whatever goes wrong, the next step loads it again: it may have been kept all the same.
    async fn save(&mut self, expected: u64, state: ChainState, done: Done) -> Result<Done, SubmitError> {
        self.row = None;
        match self.store.save(expected, state.encode()?).await {
            Ok(sequence) => {
                self.row = Some((sequence, state));
                Ok(done)
            }
            Err(StoreError::Stale) => Ok(Done::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes step after step until nothing is left to do, then waits for the interval or a new checkpoint; until the
    /// task is dropped or nobody can announce checkpoints any more. Outcomes go to `tell`.
    pub async fn run(
        mut self,
        mut newest: watch::Receiver<Option<TreeHead>>,
        interval: Duration,
        tell: impl Fn(&Result<Done, SubmitError>) + Send,
    ) {
        loop {
            let wanted = *newest.borrow_and_update();
            let outcome = self.step(wanted).await;
            tell(&outcome);
            let goes_on =
                matches!(outcome, Ok(Done::Begun(_) | Done::Bumped(_) | Done::Anchored(_) | Done::Released(_)));
            if goes_on {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                changed = newest.changed() => if changed.is_err() { return },
            }
        }
    }
}
