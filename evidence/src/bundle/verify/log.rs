//! Records, entries and the checkpoint: what ties an event to a log that known parties signed for.

use std::collections::BTreeMap;

use stele_types::ids::Salt;

use super::outside::Dated;
use crate::bundle::calendar::utc;
use crate::bundle::claims::{Claim, Outcome, Question, Text};
use crate::note::Note;
use crate::policy::{Evaluation, Policy, Refusal, SignedBy};
use crate::proof::{Head, verify_inclusion};
use crate::record::Entry;
use crate::tlog_proof::TlogProof;
use crate::tree::leaf_hash;

/// What all proofs of a bundle say of the log.
pub(super) struct LogView<'a> {
    policy: Policy,
    /// The policy is the auditor's.
    own: bool,
    origin: &'a str,
    /// The first accepted checkpoint, signatures included, and its size and root.
    checkpoint: Option<(Note, Head)>,
    /// The first object whose proof leads elsewhere.
    other: Option<usize>,
    /// Witnesses that cosigned, and when.
    witnesses: BTreeMap<String, Option<u64>>,
}

/// One proof, as the object names it.
pub(super) struct Proof<'a> {
    pub(super) number: usize,
    pub(super) file: &'a str,
    pub(super) index: u64,
    pub(super) salt: &'a Salt,
    pub(super) record: &'a [u8],
}

fn key(by: &SignedBy) -> String {
    let algorithm = if by.party.key.public_key().len() == 32 { "Ed25519" } else { "ML-DSA-44" };
    format!("{}+{} ({algorithm})", by.party.key.name(), by.party.key.id())
}

/// Keys and the times that they state.
fn list(signed: &[SignedBy]) -> Text {
    let shown = |before: &str, between: &str| {
        let one = |by: &SignedBy| match by.time {
            Some(time) => format!("{}{before}{}", key(by), utc(time)),
            None => key(by),
        };
        signed.iter().map(one).collect::<Vec<_>>().join(between)
    };
    Text::new(shown(" at ", ", "), shown("，时间 ", "；"))
}

impl<'a> LogView<'a> {
    pub(super) fn new(policy: Policy, own: bool, origin: &'a str) -> Self {
        Self { policy, own, origin, checkpoint: None, other: None, witnesses: BTreeMap::new() }
    }

    /// Judges a proof; the last claim is on whether the entry stands in the log.
    pub(super) fn judge(&mut self, bytes: &[u8], proof: &Proof<'_>) -> Vec<Claim> {
        let accepted = match TlogProof::parse(bytes) {
            Ok(parsed) => match self.policy.evaluate(&parsed.checkpoint) {
                Ok(found) if found.checkpoint.origin() == self.origin => Ok((parsed, found)),
                Ok(found) => Err(format!(
                    "the checkpoint is of the log {:?}, and the bundle of {:?}",
                    found.checkpoint.origin(),
                    self.origin
                )),
                Err(Refusal::NoQuorum(found)) => {
                    Err(format!("too few witnesses cosigned; these did: [{}]", list(&found.witnesses).en))
                }
                Err(refusal) => Err(refusal.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match accepted {
            Ok((parsed, found)) => vec![self.accept(&parsed, &found, proof), include(&parsed, &found, proof)],
            Err(why) => {
                let text = Text::new(why.clone(), format!("检查点未被信任策略接受：{why}"));
                let open = Text::new(
                    "the checkpoint is not accepted, so nothing can be proven by it",
                    "检查点未被接受，无法据以证明",
                );
                vec![
                    Claim::differs(Question::Checkpoint, text).of(proof.file, "C2SP tlog-policy"),
                    Claim::not_checked(Question::Inclusion, open),
                ]
            }
        }
    }

    fn accept(&mut self, parsed: &TlogProof, found: &Evaluation, proof: &Proof<'_>) -> Claim {
        let head = found.checkpoint.head();
        let text = parsed.checkpoint.text();
        match &self.checkpoint {
            None => self.checkpoint = Some((parsed.checkpoint.clone(), head)),
            Some((first, _)) if first.text() == text => {}
            Some(_) => self.other = self.other.or(Some(proof.number)),
        }
        for witness in &found.witnesses {
            let earliest = self.witnesses.entry(key(witness)).or_insert(witness.time);
            *earliest = [*earliest, witness.time].into_iter().flatten().min();
        }
        let (logs, witnesses) = (list(&found.logs), list(&found.witnesses));
        let mut en = format!("size {}, signed by {}", head.size, logs.en);
        let mut zh = format!("日志大小 {}，签名：{}", head.size, logs.zh);
        if found.witnesses.is_empty() {
            en.push_str("; no witness cosigned, and the policy asks for none");
            zh.push_str("；无见证方联署，策略亦未要求");
        } else {
            en.push_str(&format!("; cosigned by {}", witnesses.en));
            zh.push_str(&format!("；见证方联署：{}", witnesses.zh));
        }
        let lines = found.checkpoint.extensions().len();
        if lines > 0 {
            en.push_str(&format!("; {lines} further lines of the checkpoint were not looked at"));
            zh.push_str(&format!("；检查点另有 {lines} 行未予核验"));
        }
        let claim =
            Claim::agrees(Question::Checkpoint, Text::new(en, zh)).of(proof.file, "C2SP signed-note, tlog-policy");
        if self.own {
            claim.trusting("the keys in your trust policy", "审核方自有信任策略所列密钥")
        } else {
            claim.trusting("the keys that the bundle itself brought", "证据包自带的密钥（未经审核方确认）")
        }
    }

    /// Size and root that all accepted proofs lead to; none if there is no such checkpoint.
    pub(super) fn head(&self) -> Option<Head> {
        self.checkpoint.as_ref().filter(|_| self.other.is_none()).map(|(_, head)| *head)
    }

    /// The checkpoint of the first accepted proof, signatures included.
    pub(super) fn note(&self) -> Option<&Note> {
        self.checkpoint.as_ref().filter(|_| self.other.is_none()).map(|(note, _)| note)
    }

    /// Claims on the log as a whole; `dated` are times from elsewhere that hold for every object, `chains`
    /// those that take one history only, with the size that they have.
    pub(super) fn claims(&self, dated: &[Dated], chains: &[(String, u64)]) -> Vec<Claim> {
        let mut claims = vec![self.policy_claim()];
        match (&self.checkpoint, self.other) {
            (_, Some(number)) => claims.push(Claim::differs(
                Question::OneCheckpoint,
                Text::new(
                    format!("the proof of object {number} leads to another checkpoint than the ones before; one log can't be told from two"),
                    format!("对象 {number} 的证明指向另一检查点，无法排除存在两份日志"),
                ),
            )),
            (Some((_, head)), None) => {
                let (size, root) = (head.size, hex::encode(head.root));
                let text = Text::new(format!("{size} entries, root {root}"), format!("共 {size} 条，根 {root}"));
                claims.push(Claim::agrees(Question::OneCheckpoint, text).of("", "RFC 6962, SHA-256"));
            }
            (None, None) => {
                let why = Text::new("no checkpoint was accepted", "没有任何检查点被接受");
                claims.push(Claim::not_checked(Question::OneCheckpoint, why));
            }
        }
        let [time, same] = self.witnessed();
        claims.extend([date(time, dated), single(same, chains)]);
        claims
    }

    fn policy_claim(&self) -> Claim {
        if self.own {
            let text = Text::new("the auditor's own, from outside the bundle", "审核方自有，来自证据包之外");
            return Claim { outcome: Outcome::Open, ..Claim::agrees(Question::Policy, text) }
                .trusting("yourself", "审核方自身");
        }
        Claim::asserted(
            Question::Policy,
            Text::new(
                "only the bundle's own was used: it was chosen by whoever made the bundle and proves nothing about who \
                 signed. Verify again with --policy and a policy from the log's operator and witnesses themselves",
                "仅使用了证据包自带的策略：它由证据包制作者选定，不能证明签名者身份。请以 --policy 指定自行取得的策略重新核验",
            ),
        )
        .of(crate::bundle::names::POLICY, "C2SP tlog-policy")
    }

    /// Time and non-equivocation stand on witnesses that the auditor trusts, or on nothing.
    fn witnessed(&self) -> [Claim; 2] {
        let names: Vec<String> = self.witnesses.keys().cloned().collect();
        let names = names.join(", ");
        if self.checkpoint.is_none() || self.other.is_some() || self.witnesses.is_empty() || !self.own {
            let (en, zh) = if self.witnesses.is_empty() {
                ("no witness cosigned".to_owned(), "无见证方联署".to_owned())
            } else {
                (
                    format!("{names} cosigned, but not under a trust policy of yours and one checkpoint"),
                    format!("{names} 已联署，但并非依据审核方自有策略及同一检查点"),
                )
            };
            let text = Text::new(en, zh);
            return [Claim::asserted(Question::Time, text.clone()), Claim::asserted(Question::NonEquivocation, text)];
        }
        let (trust_en, trust_zh) = (format!("the witnesses {names}"), format!("见证方 {names}"));
        let stated: Vec<u64> = self.witnesses.values().flatten().copied().collect();
        // By the last of the times each of them had seen it, so one honest witness is enough.
        let time = match stated.iter().max() {
            Some(last) => {
                let at = utc(*last);
                let text = Text::new(
                    format!("cosigned; the checkpoint and every entry under it existed at {at} at the latest"),
                    format!("已由见证方联署；该检查点及其全部条目最迟于 {at} 已存在"),
                );
                Claim::agrees(Question::Time, text).trusting(&trust_en, &trust_zh).at(at)
            }
            None => {
                let text = Text::new("the witnesses stated no time", "见证方未载明时间");
                Claim::asserted(Question::Time, text)
            }
        };
        let text = Text::new(
            format!("these witnesses vouch that they saw this log only grow: {names}"),
            format!("下列见证方保证其所见日志仅有追加：{names}"),
        );
        let same = Claim::agrees(Question::NonEquivocation, text).trusting(&trust_en, &trust_zh);
        [time, same]
    }

    /// Digests of the checkpoint, for the report.
    pub(super) fn digests(&self) -> Vec<(String, String)> {
        let roots = self.checkpoint.iter();
        roots
            .map(|(_, head)| (format!("root of the log of {} entries (SHA-256)", head.size), hex::encode(head.root)))
            .collect()
    }
}

/// Where no witness dates the objects of the bundle, the earliest of the other times does.
fn date(witnessed: Claim, dated: &[Dated]) -> Claim {
    match dated.iter().min_by_key(|dated| dated.time) {
        Some(earliest) if witnessed.outcome != Outcome::Agrees => {
            let at = utc(earliest.time);
            let text = Text::new(
                format!("dated from outside the log; every object of this bundle was logged by {at} at the latest"),
                format!("由日志之外的证据确定；本证据包全部对象最迟于 {at} 已记入日志"),
            );
            Claim::agrees(Question::Time, text).trusting(&earliest.trusted.en, &earliest.trusted.zh).at(at)
        }
        _ => witnessed,
    }
}

/// Where no witness vouches for one history, a contract does that takes one root for a size, and no size twice.
fn single(witnessed: Claim, chains: &[(String, u64)]) -> Claim {
    match chains.iter().max_by_key(|(_, size)| *size) {
        Some((chain, size)) if witnessed.outcome != Outcome::Agrees => {
            let text = Text::new(
                format!(
                    "whoever looks at chain {chain} sees this history up to size {size}: the contract takes one root for a size"
                ),
                format!("凡查看链 {chain} 者，所见至大小 {size} 的历史均与此相同：合约对每一大小仅接受一个根"),
            );
            let trusted =
                (format!("chain {chain} and the contract that you listed"), format!("链 {chain} 及审核方列明的合约"));
            Claim::agrees(Question::NonEquivocation, text).trusting(&trusted.0, &trusted.1)
        }
        _ => witnessed,
    }
}

fn include(parsed: &TlogProof, found: &Evaluation, proof: &Proof<'_>) -> Claim {
    let head = found.checkpoint.head();
    let leaf = leaf_hash(&Entry::new(proof.salt, proof.record).0);
    let why = if parsed.index == proof.index {
        verify_inclusion(leaf, parsed.index, head.size, &head.root, &parsed.path).err().map(|error| error.to_string())
    } else {
        Some(format!("the proof is for log index {}, and the bundle says {}", parsed.index, proof.index))
    };
    let claim = match why {
        None => Claim::agrees(
            Question::Inclusion,
            Text::new(
                format!("log index {} of {}", proof.index, head.size),
                format!("日志序号 {}，共 {} 条", proof.index, head.size),
            ),
        ),
        Some(why) => Claim::differs(
            Question::Inclusion,
            Text::new(
                format!("salt and record do not lead to the checkpoint: {why}"),
                format!("由盐值与记录不能推得该检查点：{why}"),
            ),
        ),
    };
    claim.of(proof.file, "HMAC-SHA-256, RFC 6962, SHA-256")
}
