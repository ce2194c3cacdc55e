//! Chains that checkpoints are taken to: `[[anchor.chains]]` in the configuration file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stele_anchor::chain::open::parse_address;
use stele_anchor::evm::backend::Finality;
use stele_anchor::evm::price::Dialect;
use stele_rpc::meta::{CHAIN_NAME_BYTES_MAX, CHAINS_MAX};

use super::Span;

/// One chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainSettings {
    /// What bundles and auditors call it. A chain whose contract or account changes needs a new one.
    pub(crate) name: String,
    /// `ledger` or `evm`.
    pub(crate) kind: Kind,
    /// Least time between two anchors.
    #[serde(default = "ten_minutes")]
    pub(crate) interval: Span,
    /// Of `evm`: URLs of nodes of the chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<String>,
    /// Of `evm`: file with the account's key, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// Of `evm`: the chain's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chain_id: Option<u64>,
    /// Of `evm`: address of the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contract: Option<String>,
    /// Of `evm`: `finalized`, `immediate`, or a number of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finality: Option<String>,
    /// Of `evm`: the most to pay per unit of gas, in the chain's smallest coin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fee_cap: Option<u64>,
    /// Of `evm`: only transactions with a plain gas price.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) legacy: bool,
}

/// Kinds of chains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The embedded one.
    Ledger,
    /// Any that speaks Ethereum's JSON-RPC.
    Evm,
}

/// What an `evm` chain needs, all there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EvmSettings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) key_file: PathBuf,
    pub(crate) chain_id: u64,
    pub(crate) contract: [u8; 20],
    pub(crate) finality: Finality,
    pub(crate) dialect: Dialect,
}

fn ten_minutes() -> Span {
    Span(600_000)
}

/// The embedded chain, which every anchor has unless the file names others.
pub(crate) fn by_default() -> Vec<ChainSettings> {
    vec![ChainSettings {
        name: "ledger".to_owned(),
        kind: Kind::Ledger,
        interval: ten_minutes(),
        endpoints: Vec::new(),
        key_file: None,
        chain_id: None,
        contract: None,
        finality: None,
        fee_cap: None,
        legacy: false,
    }]
}

/// Names of what time-stamping authorities give begin with this; they are kept as those of chains are.
pub(crate) const TSA_PREFIX: &str = "tsa-";

/// Checks all of them; `authorities` are kept beside them.
///
/// # Errors
/// Says which chain lacks what.
pub(super) fn check(chains: &[ChainSettings], authorities: usize) -> Result<(), String> {
    if chains.len() + authorities > CHAINS_MAX {
        let (chains, most) = (chains.len(), CHAINS_MAX);
        return Err(format!("{chains} chains and {authorities} time-stamping authorities; at most {most} together"));
    }
    for (at, chain) in chains.iter().enumerate() {
        let name = &chain.name;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.starts_with(TSA_PREFIX) {
            return Err(format!(
                "anchor.chains name = {name:?}: names with {TSA_PREFIX} are of time-stamping authorities"
            ));
        }
        if name.is_empty() || name.len() > CHAIN_NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(format!(
                "anchor.chains name = {name:?}: 1 to {CHAIN_NAME_BYTES_MAX} small letters, digits and '-'"
            ));
        }
        if chains.iter().take(at).any(|other| other.name == *name) {
            return Err(format!("anchor.chains has two chains of the name {name}"));
        }
        if !(1_000..=86_400_000).contains(&chain.interval.0) {
            return Err(format!("anchor.chains {name}: interval = {}: 1s to 1d are possible", chain.interval));
        }
        match chain.kind {
            Kind::Evm => chain.evm().map(drop)?,
            Kind::Ledger if chain.is_plain() => {}
            Kind::Ledger => return Err(format!("anchor.chains {name}: a ledger has name and interval only")),
        }
    }
    let ledgers = chains.iter().filter(|chain| chain.kind == Kind::Ledger).count();
    if ledgers > 1 {
        return Err("anchor.chains has several ledgers; an anchor has one".to_owned());
    }
    Ok(())
}

impl ChainSettings {
    fn is_plain(&self) -> bool {
        let Self { endpoints, key_file, chain_id, contract, finality, fee_cap, legacy, .. } = self;
        endpoints.is_empty()
            && key_file.is_none()
            && chain_id.is_none()
            && contract.is_none()
            && finality.is_none()
            && fee_cap.is_none()
            && !legacy
    }

    /// Everything that an `evm` chain needs.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) fn evm(&self) -> Result<EvmSettings, String> {
        let lacks = |what: &str| format!("anchor.chains {}: {what}", self.name);
        let contract =
            self.contract.as_deref().ok_or_else(|| lacks("contract is missing; stele chain deploy makes one"))?;
        let contract = parse_address(contract).ok_or_else(|| lacks("contract is not 0x and 40 hexadecimal digits"))?;
        let finality =
            match self.finality.as_deref() {
                Some("finalized") => Finality::Finalized,
                Some("immediate") => Finality::Immediate,
                Some(blocks) => {
                    Finality::Depth(blocks.parse().ok().filter(|blocks| *blocks > 0).ok_or_else(|| {
                        lacks("finality is finalized, immediate, or a number of blocks such as \"12\"")
                    })?)
                }
                None => return Err(lacks("finality is missing: finalized, immediate, or a number of blocks")),
            };
        if self.endpoints.is_empty() {
            return Err(lacks("endpoints are missing: URLs of nodes of the chain"));
        }
        Ok(EvmSettings {
            endpoints: self.endpoints.clone(),
            key_file: self.key_file.clone().ok_or_else(|| lacks("key_file is missing: the account's key"))?,
            chain_id: self.chain_id.ok_or_else(|| lacks("chain_id is missing"))?,
            contract,
            finality,
            dialect: if self.legacy { Dialect::Legacy } else { Dialect::Probe },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        chains: Vec<ChainSettings>,
    }

    fn read(text: &str) -> Result<Vec<ChainSettings>, String> {
        let chains = toml::from_str::<File>(text).map_err(|error| error.to_string())?.chains;
        check(&chains, 0).map(|()| chains)
    }

    const EVM: &str = r#"
        [[chains]]
        name = "sepolia"
        kind = "evm"
        endpoints = ["https://node.example"]
        key_file = "/keys/sepolia"
        chain_id = 11155111
        contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
        finality = "finalized"
    "#;

    #[test]
    fn chains_are_read_with_all_they_need() {
        let both = format!("{EVM}\n[[chains]]\nname = \"ledger\"\nkind = \"ledger\"\ninterval = \"1min\"\n");
        let chains = read(&both).unwrap();
        let evm = chains[0].evm().unwrap();
        assert_eq!((evm.chain_id, evm.finality, evm.dialect), (11_155_111, Finality::Finalized, Dialect::Probe));
        assert_eq!((chains[0].interval, chains[1].interval), (Span(600_000), Span(60_000)));
        assert_eq!(read(&EVM.replace("finalized", "12")).unwrap()[0].evm().unwrap().finality, Finality::Depth(12));
        assert_eq!(check(&by_default(), CHAINS_MAX - 1), Ok(()));
        assert!(check(&by_default(), CHAINS_MAX).is_err());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for line in EVM.lines().filter(|line| line.contains('=') && !line.contains("chains")) {
            let without = read(&EVM.replace(line, "")).unwrap_err();
            let key = line.split('=').next().unwrap().trim();
            assert!(without.contains(key), "{key}: {without}");
        }
        for (from, to, named) in [
            ("sepolia", "Sepolia", "small letters"),
            ("sepolia", "tsa-1", "authorities"),
            ("finalized", "soon", "finality"),
            ("finalized", "0", "finality"),
            ("0x5fbd", "0x5fb", "contract"),
            ("kind = \"evm\"", "kind = \"fabric\"", "fabric"),
            ("chain_id", "chain_nr", "chain_nr"),
        ] {
            let error = read(&EVM.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
        assert!(read(&format!("{EVM}{EVM}")).unwrap_err().contains("two chains"));
        assert!(read(&EVM.replace("\"evm\"", "\"ledger\"")).unwrap_err().contains("ledger has name"));
    }
}
