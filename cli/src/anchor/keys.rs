//! Changing the keys that sign a log. For a while both pairs sign, so that auditors and witnesses who know one of them go
//! on; then the old pair goes. The anchor does not run meanwhile: who changes keys has its directory.

use anyhow::bail;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, SEED_LEN, Signer};
use stele_evidence::vkey::KeyName;
use stele_storage_node::media::Media as _;
use stele_types::seam::Rng;

use super::{AnchorDir, ED25519, ML_DSA, ORIGIN, VERIFIER_KEYS};

/// Seeds of the pair that is to take over.
const NEXT_ED25519: &str = "next-ed25519.seed";
const NEXT_ML_DSA: &str = "next-ml-dsa-44.seed";

type Signers = Vec<Box<dyn Signer + Send + Sync>>;

impl AnchorDir {
    /// Adds the pair that is to take over, if there is one, and writes down all keys that sign.
    pub(super) async fn with_next(&self, name: &KeyName, mut signers: Signers) -> anyhow::Result<Signers> {
        let Some(next) = self.next(name).await? else { return Ok(signers) };
        // Where taking over was interrupted, one of them has taken over already.
        let known: Vec<String> = signers.iter().map(|signer| signer.vkey().to_string()).collect();
        signers.extend(next.into_iter().filter(|signer| !known.contains(&signer.vkey().to_string())));
        self.write(VERIFIER_KEYS, listed(&signers)).await?;
        Ok(signers)
    }

    async fn next(&self, name: &KeyName) -> anyhow::Result<Option<Signers>> {
        // The Ed25519 seed is written last and removed first.
        if self.read(NEXT_ED25519).await?.is_none() {
            return Ok(None);
        }
        let ed25519 = Ed25519Signer::for_notes(name.clone(), &self.seed(NEXT_ED25519).await?);
        let ml_dsa = MlDsa44Signer::new(name.clone(), &self.seed(NEXT_ML_DSA).await?);
        Ok(Some(vec![Box::new(ed25519), Box::new(ml_dsa)]))
    }

    async fn name_of_log(&self) -> anyhow::Result<KeyName> {
        match self.read(ORIGIN).await? {
            Some(name) => Ok(KeyName::new(&name)?),
            None => {
                bail!("{} has no keys of a log: it is the directory anchor/ of an anchor's data", self.path.display())
            }
        }
    }

    /// Draws the pair that is to take over, unless there is one. Returns its verifier keys.
    ///
    /// # Errors
    /// The directory has no keys of a log, or a file can't be read or written.
    pub(crate) async fn begin_rotation(&self, rng: &dyn Rng) -> anyhow::Result<String> {
        let name = self.name_of_log().await?;
        if self.next(&name).await?.is_none() {
            for file in [NEXT_ML_DSA, NEXT_ED25519] {
                self.write(file, hex::encode(stele_types::seam::random_bytes::<SEED_LEN>(rng))).await?;
            }
        }
        Ok(listed(&self.next(&name).await?.unwrap_or_default()))
    }

    /// Lets the new pair sign alone. Safe to repeat after a crash. Returns the verifier keys.
    ///
    /// # Errors
    /// No new pair was drawn, or a file can't be read or written.
    pub(crate) async fn finish_rotation(&self) -> anyhow::Result<String> {
        let name = self.name_of_log().await?;
        let Some(next) = self.next(&name).await? else {
            bail!("{}: no new keys were drawn; begin without --finish", self.path.display())
        };
        for (from, to) in [(NEXT_ED25519, ED25519), (NEXT_ML_DSA, ML_DSA)] {
            self.write(to, hex::encode(self.seed(from).await?)).await?;
        }
        self.write(VERIFIER_KEYS, listed(&next)).await?;
        for file in [NEXT_ED25519, NEXT_ML_DSA] {
            self.media.remove(file).await?;
            self.media.sync_dir().await?;
        }
        Ok(listed(&next))
    }
}

fn listed(signers: &Signers) -> String {
    signers.iter().map(|signer| format!("{}\n", signer.vkey())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::OsRng;

    const NAME: &str = "stele/7/log/0";

    async fn keys(dir: &AnchorDir) -> Vec<String> {
        let (_, signers) = dir.signers(NAME, &OsRng).await.unwrap();
        let told = dir.read(VERIFIER_KEYS).await.unwrap().unwrap();
        let keys: Vec<String> = signers.iter().map(|signer| signer.vkey().to_string()).collect();
        assert_eq!(told.lines().collect::<Vec<_>>(), keys, "auditors are told of those that sign");
        keys
    }

    #[tokio::test]
    async fn both_pairs_sign_until_the_old_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AnchorDir::open(&folder.path().join("anchor")).await.unwrap();
        assert!(dir.begin_rotation(&OsRng).await.unwrap_err().to_string().contains("no keys of a log"));
        let old = keys(&dir).await;
        assert!(dir.finish_rotation().await.unwrap_err().to_string().contains("no new keys"));
        let told = dir.begin_rotation(&OsRng).await.unwrap();
        assert_eq!(dir.begin_rotation(&OsRng).await.unwrap(), told, "they are drawn once");
        let new: Vec<String> = told.lines().map(str::to_owned).collect();
        assert_eq!(keys(&dir).await, [old.clone(), new.clone()].concat());
        assert!(old.iter().all(|key| !new.contains(key)));
        assert_eq!(dir.finish_rotation().await.unwrap(), told);
        assert_eq!(keys(&dir).await, new);
        assert!(dir.finish_rotation().await.is_err());
    }

    #[tokio::test]
    async fn a_rotation_that_was_interrupted_is_finished_later() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AnchorDir::open(&folder.path().join("anchor")).await.unwrap();
        let old = keys(&dir).await;
        // Dead before the second seed was written: nothing has begun.
        dir.write(NEXT_ML_DSA, hex::encode([7; SEED_LEN])).await.unwrap();
        assert_eq!(keys(&dir).await, old);
        let new: Vec<String> = dir.begin_rotation(&OsRng).await.unwrap().lines().map(str::to_owned).collect();
        // Dead after the first of them took over.
        dir.write(ED25519, hex::encode(dir.seed(NEXT_ED25519).await.unwrap())).await.unwrap();
        assert_eq!(keys(&dir).await, [new[0].clone(), old[1].clone(), new[1].clone()]);
        // Dead before the last file was removed.
        dir.finish_rotation().await.unwrap();
        dir.write(NEXT_ML_DSA, hex::encode([7; SEED_LEN])).await.unwrap();
        assert_eq!(keys(&dir).await, new);
    }

    /// What a lost key asks for: the name goes, what was signed stays.
    #[tokio::test]
    async fn without_its_name_a_directory_gets_new_keys_for_the_same_log() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AnchorDir::open(&folder.path().join("anchor")).await.unwrap();
        let old = keys(&dir).await;
        dir.media.remove(ML_DSA).await.unwrap();
        let lost = dir.signers(NAME, &OsRng).await.err().unwrap().to_string();
        assert!(lost.contains("ml-dsa-44.seed"), "{lost}");
        dir.media.remove(ORIGIN).await.unwrap();
        let new = keys(&dir).await;
        assert!(old.iter().all(|key| !new.contains(key)));
        assert_eq!(dir.read(ORIGIN).await.unwrap().as_deref(), Some(NAME));
    }
}
