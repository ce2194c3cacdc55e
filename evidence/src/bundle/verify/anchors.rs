//! Anchors: what a chain recorded of the log. A proof can be consistent within itself and still be of a block
//! that never was; so the auditor says which chains count, and which blocks were looked up.

use super::Unusable;
use super::outside::{Covered, Dated, Outside};
use crate::bundle::calendar::{utc, utc_millis};
use crate::bundle::claims::{Claim, Question, Text};
use crate::bundle::contents::{BundleAnchor, ChainKind};
use crate::chain::evm::{EVM_PROOF_MAX, EvmAnchor, EvmProof, Pin};
use crate::chain::ledger::{BLOCK_LEN, Block};
use crate::chain::trust::{Chain, TrustedChains};
use crate::chain::{Anchored, log_id};
use crate::proof::Head;

/// What a proof amounts to, before it is joined with the log.
struct Found {
    anchored: Anchored,
    /// What was found, without what it covers.
    detail: Text,
    /// Seconds, and who vouches for it; none if it is the operator's word.
    dated: Option<Dated>,
    /// Time to show, whoever says so.
    time: String,
    algorithm: &'static str,
}

impl Outside<'_> {
    /// Judges every anchor.
    pub(super) fn anchors(&mut self, chains: &TrustedChains) -> Result<(), Unusable> {
        let contents = self.contents;
        for anchor in &contents.anchors {
            let found = match self.load(&anchor.proof, EVM_PROOF_MAX.max(BLOCK_LEN))? {
                Ok(bytes) => self.found(anchor, &bytes, chains.get(&anchor.name)),
                Err(why) => Err(why),
            };
            let joined = match &found {
                Ok(found) => self.fits(anchor, &found.anchored)?,
                Err(why) => Err(why.clone()),
            };
            match (found, joined) {
                (Ok(found), Ok(())) => self.holds(anchor, found),
                (_, Err(why)) | (Err(why), _) => {
                    let text =
                        Text::new(format!("{}: {}", anchor.name, why.en), format!("{}：{}", anchor.name, why.zh));
                    self.claims.push(Claim::differs(Question::Anchor, text).of(&anchor.proof, ""));
                }
            }
        }
        Ok(())
    }

    fn found(&mut self, anchor: &BundleAnchor, bytes: &[u8], chain: Option<&Chain>) -> Result<Found, Text> {
        match (anchor.chain, chain) {
            (ChainKind::Evm, Some(Chain::Evm { pin, blocks })) => self.evm(&anchor.name, bytes, Some((pin, blocks))),
            (ChainKind::Evm, None) => self.evm(&anchor.name, bytes, None),
            (ChainKind::Ledger, Some(chain @ Chain::Ledger { .. })) => ledger(&anchor.name, bytes, Some(chain)),
            (ChainKind::Ledger, None) => ledger(&anchor.name, bytes, None),
            (kind, Some(_)) => Err(Text::new(
                format!("the bundle says {}, and your file of chains another kind", kind.name()),
                format!("证据包称其为 {}，与审核方链清单所载类型不同", kind.name()),
            )),
        }
    }

    fn evm(&mut self, name: &str, bytes: &[u8], trusted: Option<(&Pin, &Vec<[u8; 32]>)>) -> Result<Found, Text> {
        let refused = |error: String| Text::new(error.clone(), format!("链上证明不成立：{error}"));
        let proof = EvmProof::decode(bytes).map_err(|error| refused(error.to_string()))?;
        let pin = trusted.map_or(&proof.pin, |(pin, _)| pin);
        let anchor = proof.verify(pin).map_err(|error| refused(error.to_string()))?;
        let hash = hex::encode(anchor.block_hash);
        self.digests.push((format!("hash of block {} of chain {name} (Keccak-256)", anchor.number), hash.clone()));
        let looked_up = trusted.is_some_and(|(_, blocks)| blocks.contains(&anchor.block_hash));
        let what = recorded(name, pin, &anchor);
        let (detail, dated) = if looked_up {
            let by = Text::new(
                format!("chain {name}, and yourself, who listed this block"),
                format!("链 {name}，及列明该区块的审核方自身"),
            );
            let dated = Dated { time: anchor.time, trusted: by };
            (with(what, "you listed its hash", "审核方已列明该区块哈希"), Some(dated))
        } else {
            (with(what, &believe_en(name, trusted.is_some()), &believe_zh(name, trusted.is_some())), None)
        };
        let algorithm = "Keccak-256, Merkle Patricia proof";
        Ok(Found { anchored: anchor.anchored, detail, dated, time: utc(anchor.time), algorithm })
    }

    /// The anchor is of this log, says what the contents say, and joins the checkpoint.
    fn fits(&self, anchor: &BundleAnchor, found: &Anchored) -> Result<Result<(), Text>, Unusable> {
        if found.log_id != log_id(&self.contents.origin) {
            return Ok(Err(Text::new("the anchor is of another log", "该锚定属于另一日志")));
        }
        if (found.size, found.root) != (anchor.size, anchor.root) {
            return Ok(Err(Text::new(
                "the anchor has another size or root than stele-bundle.json says",
                "该锚定的大小或根与 stele-bundle.json 不符",
            )));
        }
        self.joined(Head { size: found.size, root: found.root }, anchor.consistency.as_ref())
    }

    fn holds(&mut self, anchor: &BundleAnchor, found: Found) {
        let (covered, words) = self.covered(found.anchored.size);
        let detail =
            Text::new(format!("{}; {}", found.detail.en, words.en), format!("{}；{}", found.detail.zh, words.zh));
        if covered == Covered::None {
            return self.covers_none(Question::Anchor, &anchor.proof, detail);
        }
        let claim = match &found.dated {
            Some(Dated { trusted, .. }) => Claim::agrees(Question::Anchor, detail).trusting(&trusted.en, &trusted.zh),
            None => Claim::asserted(Question::Anchor, detail),
        };
        self.claims.push(claim.of(&anchor.proof, found.algorithm).at(found.time));
        if covered == Covered::All {
            if found.dated.is_some() && anchor.chain == ChainKind::Evm {
                self.chains.push((anchor.name.clone(), anchor.size));
            }
            self.dated.extend(found.dated);
        }
    }
}

/// What a block says, in words.
fn recorded(name: &str, pin: &Pin, anchor: &EvmAnchor) -> Text {
    let (number, size, id) = (anchor.number, anchor.anchored.size, pin.chain_id);
    let (time, hash, root) = (utc(anchor.time), hex::encode(anchor.block_hash), hex::encode(anchor.anchored.root));
    let (contract, sender) = (hex::encode(pin.contract), hex::encode(pin.sender));
    let (stored_en, stored_zh) = if anchor.stored {
        (", and its storage holds the root", "，且合约存储中亦有该根")
    } else {
        ("", "")
    };
    Text::new(
        format!(
            "chain {name} (id {id}): block {number} of {time}, hash 0x{hash}, holds the event of contract 0x{contract} by \
             0x{sender} that the log has root {root} at size {size}{stored_en}"
        ),
        format!(
            "链 {name}（标识 {id}）：区块 {number}，时间 {time}，哈希 0x{hash}，载有合约 0x{contract} 由 0x{sender} \
             发出的事件：日志大小 {size} 时根为 {root}{stored_zh}"
        ),
    )
}

fn with(text: Text, en: &str, zh: &str) -> Text {
    Text::new(format!("{}; {en}", text.en), format!("{}；{zh}", text.zh))
}

/// What is left to do for who wants to believe a block.
fn believe_en(name: &str, listed: bool) -> String {
    let chain = if listed { String::new() } else { format!("no file of chains of yours names {name}, and ") };
    format!(
        "{chain}all of this stands and falls with the block hash. To believe it, look this block number up on a node of your own, \
         or on two explorers that don't belong together, and list the hash in the file for --chains"
    )
}

fn believe_zh(name: &str, listed: bool) -> String {
    let chain = if listed { String::new() } else { format!("审核方未以 --chains 列出链 {name}；") };
    format!(
        "{chain}以上均取决于该区块哈希是否真实：请在自有节点或两个互不隶属的区块浏览器上按区块号查验，并将哈希列入 --chains 文件"
    )
}

fn ledger(name: &str, bytes: &[u8], chain: Option<&Chain>) -> Result<Found, Text> {
    let refused = |error: String| Text::new(error.clone(), format!("账本区块不成立：{error}"));
    let block = Block::decode(bytes).map_err(|error| refused(error.to_string()))?;
    let (height, size, time) = (block.height, block.anchored.size, utc_millis(block.time_ms));
    let what = Text::new(
        format!("ledger {name}: block {height} of {time} holds size {size}"),
        format!("账本 {name}：区块 {height}，时间 {time}，载有日志大小 {size}"),
    );
    let (detail, dated) = match chain {
        Some(Chain::Ledger { key, independent }) => {
            key.check(&block).map_err(|error| refused(error.to_string()))?;
            if *independent {
                let by = Text::new(format!("whoever keeps the ledger {name}"), format!("账本 {name} 的维护者"));
                let dated = Dated { time: block.time_ms / 1000, trusted: by };
                (with(what, "the key that you call independent signed it", "由审核方称为独立的密钥签名"), Some(dated))
            } else {
                let en = "the ledger's key signed it; the ledger is the operator's own, and so is its time";
                (with(what, en, "由账本密钥签名；账本由运营方自行维护，其时间为运营方声明"), None)
            }
        }
        _ => {
            let en = "its signature was not checked: name the ledger's key in the file for --chains";
            (with(what, en, "未核验其签名：请在 --chains 文件中列明账本密钥"), None)
        }
    };
    let algorithm = if chain.is_some() { "Ed25519" } else { "" };
    Ok(Found { anchored: block.anchored, detail, dated, time, algorithm })
}
