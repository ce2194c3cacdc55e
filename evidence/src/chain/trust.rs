//! Which chains an auditor trusts, and how far: a file that comes from the auditor, never with a bundle.
//! Lines in the manner of C2SP tlog-policy; docs/formats/chains.md says which.

use std::collections::BTreeMap;

use super::evm::Pin;
use super::ledger::LedgerKey;
use crate::keys::KeyError;
use crate::lines::{parse_decimal, split_line};
use crate::tree::Hash;

/// Largest file, bytes.
pub const CHAINS_MAX: usize = 64 * 1024;
/// Most chains.
pub const ENTRIES_MAX: usize = 64;

/// A file of chains that can't be read: where, and what is wrong there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ChainsError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: ChainsFault,
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainsFault {
    /// More than [`CHAINS_MAX`] bytes.
    #[error("the file is larger than {CHAINS_MAX} bytes")]
    TooLarge,
    /// More than [`ENTRIES_MAX`] chains.
    #[error("more than {ENTRIES_MAX} chains")]
    TooMany,
    /// Not UTF-8, or a control character.
    #[error("not UTF-8 without control characters")]
    Byte,
    /// The last line was cut.
    #[error("the line does not end with a line feed")]
    Unterminated,
    /// Another line than those there are.
    #[error(
        "a line is `evm NAME CHAIN-ID CONTRACT SENDER [BLOCK-HASH ...]`, `ledger NAME VKEY [independent]`, or begins with #"
    )]
    Line,
    /// Not a number.
    #[error("a chain id is a number without leading zeros, not {0:?}")]
    ChainId(String),
    /// Not hexadecimal of the right length.
    #[error("{0:?}: an address is 0x and 40 hexadecimal digits, a block hash 0x and 64 of them")]
    Hex(String),
    /// The ledger's key can't be read.
    #[error("the ledger's key is not valid: {0}")]
    Key(#[from] KeyError),
    /// The name stands in an earlier line.
    #[error("the chain {0:?} is listed twice")]
    Twice(String),
}

/// One chain that the auditor trusts.
#[derive(Clone, Debug)]
pub enum Chain {
    /// An Ethereum-like one.
    Evm {
        /// Chain, contract and sender.
        pin: Pin,
        /// Blocks that the auditor looked up.
        blocks: Vec<Hash>,
    },
    /// A ledger.
    Ledger {
        /// Its key.
        key: LedgerKey,
        /// The auditor says that somebody independent of the log's operator keeps it.
        independent: bool,
    },
}

/// The chains of an auditor, by name.
#[derive(Clone, Debug, Default)]
pub struct TrustedChains {
    by_name: BTreeMap<String, Chain>,
}

impl TrustedChains {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChainsError> {
        if bytes.len() > CHAINS_MAX {
            return Err(ChainsError { line: 1, reason: ChainsFault::TooLarge });
        }
        let (mut chains, mut rest, mut line) = (Self::default(), bytes, 0);
        while !rest.is_empty() {
            line += 1;
            let at = |reason| ChainsError { line, reason };
            let (text, behind) = split_line(rest).ok_or_else(|| at(ChainsFault::Unterminated))?;
            rest = behind;
            let text = std::str::from_utf8(text).map_err(|_| at(ChainsFault::Byte))?;
            chains.line(text).map_err(at)?;
        }
        Ok(chains)
    }

    /// The chain of this name.
    pub fn get(&self, name: &str) -> Option<&Chain> {
        self.by_name.get(name)
    }

    fn line(&mut self, line: &str) -> Result<(), ChainsFault> {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(ChainsFault::Byte);
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let (name, chain) = match words.as_slice() {
            [] => return Ok(()),
            [word, ..] if word.starts_with('#') => return Ok(()),
            ["evm", name, id, contract, sender, blocks @ ..] => (name, evm(id, contract, sender, blocks)?),
            ["ledger", name, key] => (name, Chain::Ledger { key: LedgerKey::parse(key)?, independent: false }),
            ["ledger", name, key, "independent"] => {
                (name, Chain::Ledger { key: LedgerKey::parse(key)?, independent: true })
            }
            _ => return Err(ChainsFault::Line),
        };
        if self.by_name.len() == ENTRIES_MAX {
            return Err(ChainsFault::TooMany);
        }
        match self.by_name.insert((*name).to_owned(), chain) {
            None => Ok(()),
            Some(_) => Err(ChainsFault::Twice((*name).to_owned())),
        }
    }
}

fn evm(id: &str, contract: &str, sender: &str, blocks: &[&str]) -> Result<Chain, ChainsFault> {
    let chain_id = parse_decimal(id.as_bytes()).ok_or_else(|| ChainsFault::ChainId(id.to_owned()))?;
    let pin = Pin { chain_id, contract: digits(contract)?, sender: digits(sender)? };
    let blocks = blocks.iter().map(|block| digits(block)).collect::<Result<_, _>>()?;
    Ok(Chain::Evm { pin, blocks })
}

/// Capitals are in order: addresses carry a checksum in them.
fn digits<const N: usize>(text: &str) -> Result<[u8; N], ChainsFault> {
    let mut bytes = [0; N];
    let read = text.strip_prefix("0x").and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok());
    read.map(|()| bytes).ok_or_else(|| ChainsFault::Hex(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../golden/ledger.vkey");
    const EVM: &str =
        "evm main 20200 0xC0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0 0x5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

    #[test]
    fn chains_are_read_by_name() {
        let block = format!("0x{}", "ab".repeat(32));
        let key = KEY.trim_end();
        let text = format!("# mine\n\n{EVM} {block}\t{block}\nledger own {key}\nledger theirs {key} independent\n");
        let chains = TrustedChains::parse(text.as_bytes()).unwrap();
        let Some(Chain::Evm { pin, blocks }) = chains.get("main") else { panic!("no chain main") };
        assert_eq!(*pin, crate::chain::evm::testing::PIN);
        assert_eq!(blocks.as_slice(), [[0xab; 32]; 2]);
        assert!(matches!(chains.get("own"), Some(Chain::Ledger { independent: false, .. })));
        assert!(matches!(chains.get("theirs"), Some(Chain::Ledger { independent: true, .. })));
        assert!(chains.get("other").is_none() && TrustedChains::parse(b"").is_ok());
    }

    #[test]
    fn other_files_are_refused() {
        let key = KEY.trim_end();
        for text in [
            EVM.to_owned(),
            format!("{EVM}\r\n"),
            format!("{EVM}\n{EVM}\n"),
            format!("{EVM} 0xab\n"),
            format!("{EVM} {}\n", "ab".repeat(32)),
            format!("{}\n", EVM.replace("20200", "+20200")),
            format!("{}\n", EVM.replace("0xC0", "0xG0")),
            format!("{}\n", EVM.replace("0xC0c0", "0xC0")),
            format!("{}\n", EVM.replace("evm", "EVM")),
            "evm main 1\n".to_owned(),
            "ledger own\n".to_owned(),
            format!("ledger own {key} dependent\n"),
            "ledger own log.example+00000000+AQ==\n".to_owned(),
            format!("ledger own {}\n", &key[..key.len() - 1]),
        ] {
            assert!(TrustedChains::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(TrustedChains::parse(&[0xff, b'\n']).is_err());
        let many: String = (0..=ENTRIES_MAX).map(|n| EVM.replace("main", &n.to_string()) + "\n").collect();
        assert_eq!(TrustedChains::parse(many.as_bytes()).unwrap_err().line, ENTRIES_MAX + 1);
        assert_eq!(TrustedChains::parse(&vec![b'\n'; CHAINS_MAX + 1]).unwrap_err().reason, ChainsFault::TooLarge);
    }
}
