//! What every [`Media`] must do, as one suite that runs on any of them.

use std::sync::Arc;

use bytes::Bytes;
use stele_types::limits::SEGMENT_ALIGN;

use super::aligned::AlignedBuf;
use super::{Media, MediaError, MediaErrorKind};

fn block(fill: u8) -> Bytes {
    let mut buf = AlignedBuf::zeroed(SEGMENT_ALIGN);
    buf.bytes_mut().fill(fill);
    buf.into_bytes()
}

/// Runs the suite. `open` gives a new handle on the same, initially empty, directory each time.
///
/// # Panics
/// Where the media does not conform.
///
/// # Errors
/// Where an operation fails that must not.
pub async fn run(open: impl Fn() -> Arc<dyn Media>) -> Result<(), MediaError> {
    locking(&open).await?;
    whole_files(&open).await?;
    names(&open).await?;
    contents(&open).await
}

async fn locking(open: &impl Fn() -> Arc<dyn Media>) -> Result<(), MediaError> {
    let (first, second) = (open(), open());
    first.lock().await?;
    let refused = second.lock().await.expect_err("a directory is held once");
    assert_eq!(refused.kind, MediaErrorKind::Locked);
    first.unlock().await;
    second.lock().await?;
    drop(second);
    first.lock().await?;
    first.unlock().await;
    Ok(())
}

async fn whole_files(open: &impl Fn() -> Arc<dyn Media>) -> Result<(), MediaError> {
    let media = open();
    media.lock().await?;
    assert_eq!(media.read_whole("identity", 100).await?, None);
    media.replace("identity", Bytes::from_static(b"one")).await?;
    assert_eq!(media.read_whole("identity", 100).await?.as_deref(), Some(&b"one"[..]));
    media.replace("identity", Bytes::from_static(b"longer two")).await?;
    assert_eq!(media.read_whole("identity", 100).await?.as_deref(), Some(&b"longer two"[..]));
    assert!(media.read_whole("identity", 5).await.is_err(), "a file over the bound is refused");
    assert_eq!(media.list().await?, ["identity"], "nothing is left aside");
    media.remove("identity").await?;
    media.sync_dir().await?;
    assert_eq!(media.read_whole("identity", 100).await?, None);
    Ok(())
}

async fn names(open: &impl Fn() -> Arc<dyn Media>) -> Result<(), MediaError> {
    let media = open();
    media.lock().await?;
    assert_eq!(media.list().await?, Vec::<String>::new());
    assert_eq!(media.open("a").await.expect_err("nothing there").kind, MediaErrorKind::NotFound);
    assert_eq!(media.remove("a").await.expect_err("nothing there").kind, MediaErrorKind::NotFound);
    for name in ["b", "a"] {
        media.create(name).await?;
    }
    assert_eq!(media.create("a").await.expect_err("a name is taken once").kind, MediaErrorKind::Exists);
    media.sync_dir().await?;
    assert_eq!(media.list().await?, ["a", "b"]);
    for name in ["a", "b"] {
        media.remove(name).await?;
    }
    media.sync_dir().await?;
    assert_eq!(media.list().await?, Vec::<String>::new());
    Ok(())
}

async fn contents(open: &impl Fn() -> Arc<dyn Media>) -> Result<(), MediaError> {
    let align = SEGMENT_ALIGN as u64;
    let media = open();
    media.lock().await?;
    let file = media.create("seg").await?;
    file.allocate(0, 8 * align).await?;
    assert_eq!(file.size().await?, 8 * align);
    assert!(file.read_at(0, SEGMENT_ALIGN).await?.iter().all(|b| *b == 0), "allocated space reads as zero");
    file.write_at(align, &[block(1), block(2)]).await?;
    file.sync().await?;
    media.sync_dir().await?;

    let file = media.open("seg").await?;
    let read = file.read_at(align + 4000, 200).await?;
    assert_eq!(&read[..96], &[1u8; 96]);
    assert_eq!(&read[96..], &[2u8; 104]);
    let beyond = file.read_at(8 * align - 10, 20).await?;
    assert_eq!(beyond.len(), 20, "past the end is zero, not short");
    assert!(beyond.iter().all(|b| *b == 0));

    let big: Vec<Bytes> = (0..200u8).map(block).collect();
    file.write_at(0, &big).await?;
    file.sync().await?;
    file.drop_cache().await;
    let read = file.read_at(100, 199 * SEGMENT_ALIGN).await?;
    assert_eq!(read.len(), 199 * SEGMENT_ALIGN);
    for (at, byte) in read.iter().enumerate().step_by(997) {
        assert_eq!(usize::from(*byte), (at + 100) / SEGMENT_ALIGN);
    }
    file.truncate(2 * align).await?;
    file.sync().await?;
    assert_eq!(file.size().await?, 2 * align);
    assert!(file.read_at(2 * align, 4096).await?.iter().all(|b| *b == 0), "what was cut off is gone");
    let space = media.space().await?;
    assert!(space.free <= space.total && space.total > 0);
    media.remove("seg").await?;
    media.sync_dir().await
}
