//! Which step comes next on a chain, from what is remembered and what the chain answered. Pure.
//!
//! | what stands | what the chain says | next |
//! |---|---|---|
//! | no intent | the newest checkpoint is not anchored | begin: sign, keep the intent; nothing is sent |
//! | no intent | somebody anchored the newest checkpoint | adopt: prove it, keep the proof |
//! | intent | no candidate is known | send the newest candidate, byte for byte |
//! | intent | one waits, and offers less than the chain asks | bump: the same number, higher fees |
//! | intent | one is in a block that is not final | wait |
//! | intent | one is in a final block and took effect | capture: prove it, keep the proof, forget the intent |
//! | intent | one is in a final block and was reverted | release: look again |
//! | intent | its number was used by another transaction, finally | release: look again |
//! | intent | the number before it is free again | release: look again |
//!
//! A block that goes away is no case of its own: the candidates are unknown again, and are sent again. Two candidates
//! can't both take effect, as they share their number; two intents can't, as the chain compares the previous size. So to
//! release an intent too early costs a fee, and never a second anchor.

use stele_rpc::meta::TreeHead;

use super::state::{CANDIDATES_MAX, Candidate, ChainState, Fee, Growth, Intent};
use super::view::{Fate, Price, View};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Look again later.
    Wait(Waiting),
    /// Sign a transaction and keep it as the intent.
    Begin {
        /// What it anchors.
        growth: Growth,
        /// Its number.
        nonce: u64,
        /// What it offers.
        fee: Option<Fee>,
    },
    /// Sign the intent once more, with this offer.
    Bump {
        /// What it offers.
        fee: Fee,
    },
    /// Send a candidate.
    Send {
        /// Which.
        candidate: usize,
    },
    /// Prove a candidate and keep the proof.
    Capture {
        /// Which.
        candidate: usize,
        /// Block that holds it.
        height: u64,
    },
    /// Look for the transaction that anchored this, prove it and keep the proof.
    Adopt {
        /// The checkpoint.
        head: TreeHead,
    },
    /// Forget the intent: it can't take effect any more. If its checkpoint is anchored all the same, by a transaction of
    /// another anchor, keep the proof of that.
    Release(Released),
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// A new checkpoint.
    Nothing,
    /// A block that takes the transaction.
    Block,
    /// The block's finality.
    Finality,
    /// The finality of a block that holds something else under the transaction's number.
    Displacement,
    /// The chain has a larger size of this log; another anchor is ahead.
    Ahead,
    /// Lower fees: they are above what may be paid.
    FeeCap,
}

/// Why an intent is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// The contract refused it: another anchor was faster.
    Reverted,
    /// Another transaction of the account took its number.
    Displaced,
    /// A block went away, and with it the transaction before this one: its number is not reached any more.
    Unreached,
}

/// Why nothing is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Another root for the same size.
    #[error(
        "the chain has another root for size {size} than this log: the log was forked, or somebody else uses its name \
         and the same key. Nothing more is anchored; keep both checkpoints as evidence"
    )]
    Forked {
        /// The size.
        size: u64,
    },
    /// The provider is behind.
    #[error(
        "the provider stands at block {height}, and block {needed} was seen before: it is stale. Nothing is decided \
         until it has caught up; give another endpoint if it does not"
    )]
    StaleProvider {
        /// Its newest block.
        height: u64,
        /// A block that is known.
        needed: u64,
    },
}

/// How a chain is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The most that is paid per unit of gas; `None`: whatever is asked.
    pub fee_cap: Option<u128>,
    /// Blocks that a transaction may wait before it offers more.
    pub patience: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { fee_cap: None, patience: 20 }
    }
}

/// Decides. `newest`: the newest signed checkpoint.
///
/// # Errors
/// [`Refusal`].
pub fn next_step(state: &ChainState, newest: Option<TreeHead>, view: &View, rules: Rules) -> Result<Step, Refusal> {
    let known = state.intent.iter().flat_map(|intent| &intent.candidates).map(|candidate| candidate.height);
    let needed = known.chain(state.kept.map(|kept| kept.height)).max().unwrap_or(0);
    // A few blocks may go away in a reorganisation, so a bit less than what was seen is no sign of age.
    if view.height.saturating_add(REORG_BLOCKS) < needed {
        return Err(Refusal::StaleProvider { height: view.height, needed });
    }
    match &state.intent {
        Some(intent) => pursue(intent, view, rules),
        None => start(state, newest, view, rules),
    }
}

const REORG_BLOCKS: u64 = 8;

fn start(state: &ChainState, newest: Option<TreeHead>, view: &View, rules: Rules) -> Result<Step, Refusal> {
    let Some(head) = newest else { return Ok(Step::Wait(Waiting::Nothing)) };
    for known in [Some(head), state.kept.map(|kept| kept.head)].into_iter().flatten() {
        if view.anchored.is_some_and(|anchored| anchored.size == known.size && anchored.root != known.root) {
            return Err(Refusal::Forked { size: known.size });
        }
    }
    let kept_on_chain = state.kept.is_some_and(|kept| kept.head.size <= view.anchored_size());
    if kept_on_chain && state.kept_size() >= head.size {
        return Ok(Step::Wait(Waiting::Nothing));
    }
    if view.anchored_size() > head.size {
        return Ok(Step::Wait(Waiting::Ahead));
    }
    if view.anchored == Some(head) {
        return Ok(Step::Adopt { head });
    }
    if let (Some(kept), false) = (state.kept, kept_on_chain)
        && view.height < kept.height
    {
        return Err(Refusal::StaleProvider { height: view.height, needed: kept.height });
    }
    let fee = match view.price {
        None => None,
        Some(Price { floor, offer }) => {
            // Without a base fee nobody knows what would still be taken.
            let least = if floor == 0 { offer.max } else { floor.saturating_add(offer.tip.unwrap_or(0)) };
            let Some(fee) = within_cap(offer, least, rules) else { return Ok(Step::Wait(Waiting::FeeCap)) };
            Some(fee)
        }
    };
    Ok(Step::Begin { growth: Growth { previous: view.anchored_size(), head }, nonce: view.nonce, fee })
}

fn pursue(intent: &Intent, view: &View, rules: Rules) -> Result<Step, Refusal> {
    let included = view.fates.iter().enumerate().find_map(|(candidate, fate)| match *fate {
        Fate::Included { height, took_effect, is_final } => Some((candidate, height, took_effect, is_final)),
        Fate::Unknown | Fate::Pending => None,
    });
    match included {
        Some((candidate, height, true, true)) => return Ok(Step::Capture { candidate, height }),
        Some((_, _, false, true)) => return Ok(Step::Release(Released::Reverted)),
        Some((_, _, _, false)) => return Ok(Step::Wait(Waiting::Finality)),
        None => {}
    }
    if view.nonce > intent.nonce {
        let over = view.final_nonce > intent.nonce;
        return Ok(if over { Step::Release(Released::Displaced) } else { Step::Wait(Waiting::Displacement) });
    }
    if view.nonce < intent.nonce {
        // The number was reached when the first candidate was signed: at that height it is again, unless blocks went.
        let needed = intent.candidates.first().map_or(0, |candidate| candidate.height);
        if view.height < needed {
            return Err(Refusal::StaleProvider { height: view.height, needed });
        }
        return Ok(Step::Release(Released::Unreached));
    }
    let newest = intent.candidates.len().saturating_sub(1);
    if let (Some(candidate), Some(price)) = (intent.candidates.last(), view.price)
        && let Some((fee, least)) = raised(candidate, price, view.height, rules)
        && intent.candidates.len() < CANDIDATES_MAX
    {
        match within_cap(fee, least, rules) {
            Some(fee) => return Ok(Step::Bump { fee }),
            None if view.fates.contains(&Fate::Pending) => return Ok(Step::Wait(Waiting::FeeCap)),
            None => {}
        }
    }
    Ok(match view.fates.last() {
        Some(Fate::Pending) => Step::Wait(Waiting::Block),
        _ => Step::Send { candidate: newest },
    })
}

/// The offer, or as much of it as may be paid; `None`: even the least that makes sense is more than that.
fn within_cap(fee: Fee, least: u128, rules: Rules) -> Option<Fee> {
    let cap = rules.fee_cap.unwrap_or(u128::MAX);
    let max = fee.max.min(cap);
    (max >= least).then(|| Fee { max, tip: fee.tip.map(|tip| tip.min(max)) })
}

/// A higher offer, if one is due, and the least of it that makes sense. Nodes take a replacement only if each part of
/// the offer is a tenth higher.
fn raised(candidate: &Candidate, price: Price, height: u64, rules: Rules) -> Option<(Fee, u128)> {
    let old = candidate.fee?;
    let waited = height.saturating_sub(candidate.height) >= rules.patience;
    if old.max >= price.floor && !waited {
        return None;
    }
    let more = |value: u128| value.saturating_add(value / 8).saturating_add(1);
    let tip = old.tip.map(|tip| more(tip).max(price.offer.tip.unwrap_or(0)));
    let least = more(old.max).max(price.floor.saturating_add(tip.unwrap_or(0)));
    Some((Fee { max: least.max(price.offer.max), tip }, least))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::state::Kept;
    use super::*;

    fn head(size: u64) -> TreeHead {
        TreeHead { size, root: [u8::try_from(size).unwrap(); 32] }
    }

    fn fee(max: u128) -> Fee {
        Fee { max, tip: Some(1) }
    }

    fn price(floor: u128) -> Option<Price> {
        Some(Price { floor, offer: fee(2 * floor) })
    }

    fn candidate(max: u128) -> Candidate {
        Candidate { id: [1; 32], raw: Bytes::new(), fee: Some(fee(max)), gas: 1, height: 10 }
    }

    fn state(kept: Option<u64>, intent: Option<u64>) -> ChainState {
        let mut state = ChainState::new(String::new());
        state.kept = kept.map(|size| Kept { head: head(size), height: 5 });
        state.intent = intent.map(|size| Intent {
            growth: Growth { previous: kept.unwrap_or(0), head: head(size) },
            nonce: 3,
            candidates: vec![candidate(100)],
        });
        state
    }

    fn view(anchored: u64, fates: &[Fate]) -> View {
        let anchored = (anchored > 0).then(|| head(anchored));
        View { height: 11, anchored, nonce: 3, final_nonce: 3, fates: fates.to_vec(), price: price(50) }
    }

    fn step(state: &ChainState, newest: u64, view: &View) -> Result<Step, Refusal> {
        next_step(state, (newest > 0).then(|| head(newest)), view, Rules::default())
    }

    const FINAL: Fate = Fate::Included { height: 11, took_effect: true, is_final: true };

    #[test]
    fn an_idle_chain_takes_the_newest_checkpoint() {
        assert_eq!(step(&state(None, None), 0, &view(0, &[])), Ok(Step::Wait(Waiting::Nothing)));
        let begin = |previous| {
            let growth = Growth { previous, head: head(9) };
            Ok(Step::Begin { growth, nonce: 3, fee: Some(fee(100)) })
        };
        assert_eq!(step(&state(None, None), 9, &view(0, &[])), begin(0));
        assert_eq!(step(&state(Some(5), None), 9, &view(5, &[])), begin(5));
        assert_eq!(step(&state(Some(5), None), 9, &view(7, &[])), begin(7), "another anchor went on in between");
        assert_eq!(step(&state(Some(9), None), 9, &view(9, &[])), Ok(Step::Wait(Waiting::Nothing)));
        assert_eq!(step(&state(Some(5), None), 9, &view(9, &[])), Ok(Step::Adopt { head: head(9) }));
        assert_eq!(step(&state(Some(5), None), 9, &view(12, &[])), Ok(Step::Wait(Waiting::Ahead)));
        assert_eq!(step(&state(Some(9), None), 9, &view(5, &[])), begin(5), "a final block went away");
    }

    #[test]
    fn an_intent_is_pursued_to_its_end() {
        let begun = state(Some(5), Some(9));
        let at = |fate| step(&begun, 12, &view(5, &[fate]));
        let not_final = |took_effect| Fate::Included { height: 11, took_effect, is_final: false };
        assert_eq!(at(Fate::Unknown), Ok(Step::Send { candidate: 0 }));
        assert_eq!(at(Fate::Pending), Ok(Step::Wait(Waiting::Block)));
        assert_eq!(at(not_final(true)), Ok(Step::Wait(Waiting::Finality)));
        assert_eq!(at(not_final(false)), Ok(Step::Wait(Waiting::Finality)));
        assert_eq!(at(FINAL), Ok(Step::Capture { candidate: 0, height: 11 }));
        let reverted = Fate::Included { height: 11, took_effect: false, is_final: true };
        assert_eq!(at(reverted), Ok(Step::Release(Released::Reverted)));
    }

    #[test]
    fn a_number_that_others_took_releases_the_intent_only_when_that_is_final() {
        let begun = state(Some(5), Some(9));
        let mut displaced = view(5, &[Fate::Unknown]);
        displaced.nonce = 4;
        assert_eq!(step(&begun, 9, &displaced), Ok(Step::Wait(Waiting::Displacement)));
        displaced.final_nonce = 4;
        assert_eq!(step(&begun, 9, &displaced), Ok(Step::Release(Released::Displaced)));
        displaced.nonce = 2;
        assert_eq!(step(&begun, 9, &displaced), Ok(Step::Release(Released::Unreached)));
        displaced.height = 9;
        assert_eq!(step(&begun, 9, &displaced), Err(Refusal::StaleProvider { height: 9, needed: 10 }));
        displaced.height = 11;
        displaced.fates = vec![FINAL];
        assert_eq!(step(&begun, 9, &displaced), Ok(Step::Capture { candidate: 0, height: 11 }));
    }

    #[test]
    fn a_transaction_that_offers_too_little_or_waits_too_long_offers_more() {
        let begun = state(Some(5), Some(9));
        let mut dear = view(5, &[Fate::Pending]);
        dear.price = price(101);
        assert_eq!(step(&begun, 9, &dear), Ok(Step::Bump { fee: Fee { max: 202, tip: Some(2) } }));
        let capped = |cap| next_step(&begun, None, &dear, Rules { fee_cap: Some(cap), ..Rules::default() });
        assert_eq!(capped(150), Ok(Step::Bump { fee: Fee { max: 150, tip: Some(2) } }), "as much as may be paid");
        assert_eq!(capped(112), Ok(Step::Wait(Waiting::FeeCap)), "less than a node takes");
        let mut long = view(5, &[Fate::Pending]);
        long.height = 30;
        assert_eq!(step(&begun, 9, &long), Ok(Step::Bump { fee: Fee { max: 113, tip: Some(2) } }));
        let mut full = begun.clone();
        full.intent.as_mut().unwrap().candidates = vec![candidate(100); CANDIDATES_MAX];
        dear.fates = vec![Fate::Pending; CANDIDATES_MAX];
        assert_eq!(step(&full, 9, &dear), Ok(Step::Wait(Waiting::Block)), "there is room for so many only");
    }

    #[test]
    fn a_cap_on_fees_delays_and_drops_nothing() {
        let first = |price, cap| {
            let view = View { price, ..view(0, &[]) };
            next_step(&state(None, None), Some(head(9)), &view, Rules { fee_cap: Some(cap), ..Rules::default() })
        };
        let begin = |fee| Ok(Step::Begin { growth: Growth { previous: 0, head: head(9) }, nonce: 3, fee: Some(fee) });
        assert_eq!(first(price(50), 100), begin(fee(100)));
        assert_eq!(first(price(50), 60), begin(fee(60)), "as much as may be paid");
        assert_eq!(first(price(50), 50), Ok(Step::Wait(Waiting::FeeCap)), "the base fee leaves nothing for a tip");
        let plain = Some(Price { floor: 0, offer: Fee { max: 70, tip: None } });
        assert_eq!(first(plain, 69), Ok(Step::Wait(Waiting::FeeCap)), "a gas price is all or nothing");
        assert_eq!(first(plain, 70), begin(Fee { max: 70, tip: None }));
    }

    #[test]
    fn forks_and_stale_providers_stop() {
        let mut forked = view(9, &[]);
        forked.anchored = Some(TreeHead { size: 9, root: [0; 32] });
        assert_eq!(step(&state(None, None), 9, &forked), Err(Refusal::Forked { size: 9 }));
        assert_eq!(step(&state(Some(9), None), 12, &forked), Err(Refusal::Forked { size: 9 }));
        let mut stale = view(0, &[]);
        stale.height = 4;
        assert_eq!(step(&state(Some(5), None), 9, &stale), Err(Refusal::StaleProvider { height: 4, needed: 5 }));
        stale.height = 1;
        stale.fates = vec![FINAL];
        assert_eq!(step(&state(Some(5), Some(9)), 9, &stale), Err(Refusal::StaleProvider { height: 1, needed: 10 }));
    }
}
