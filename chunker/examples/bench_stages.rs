//! Measures the CPU cost of every stage of the data path, as JSON lines on stdout.
//!
//! `cargo run --release -p stele-chunker --example bench_stages`. Everything runs on one thread
//! over one 64 MiB body and is measured in CPU time of that thread. The comparison of erasure coding with BLAKE3 alternates both in one run
//! (A-B-B-A) and compares medians, so that a change of the machine's speed meets both alike.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use rustix::time::{ClockId, clock_gettime};
use sha2::Sha256;
use stele_chunker::buffer::{BufferPool, PackBuffer};
use stele_chunker::cutter::Cutter;
use stele_chunker::pack::{BodyTag, SealedPack};
use stele_chunker::shards::Coder;
use stele_chunker::stream::{PackTarget, PackWriter, WriteError};
use stele_types::ids::Epoch;
use stele_types::scheme::Scheme;

const BODY_BYTES: usize = 64 << 20;
/// What one HTTP frame brings.
const FRAME_BYTES: usize = 64 << 10;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stele_chunker::cpu::check()?;
    let body = noise(BODY_BYTES);
    let pool = &BufferPool::new(256 << 20);
    compare_coding_with_hashing(&body, pool)?;
    hashes(&body);
    stages(&body, pool)?;
    pipelines(&body, pool)?;
    small_bodies(pool)
}

fn noise(len: usize) -> Bytes {
    let mut out = PackBuffer::to_overwrite(len, &BufferPool::default());
    blake3::Hasher::new().update(b"bench").finalize_xof().fill(out.as_mut_slice());
    out.freeze()
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// CPU time of `work`: what it costs whatever else the machine does meanwhile.
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = cpu_time();
    black_box(work());
    cpu_time() - start
}

/// Takes a result, so that the work for it is not left out.
fn consume<T>(value: T) {
    drop(black_box(value));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the result of this program")]
fn report(line: &str) {
    println!("{line}");
}

/// CPU-seconds per GB (10^9 bytes) of body.
fn report_stage(stage: &str, bytes: usize, time: Duration) {
    let seconds_per_gb = time.as_secs_f64() / bytes as f64 * 1e9;
    let gb_per_second = 1.0 / seconds_per_gb;
    report(&format!(
        "{{\"bench\":\"stage\",\"stage\":\"{stage}\",\"cpu_s_per_gb\":{seconds_per_gb:.4},\"gb_per_s\":{gb_per_second:.3}}}"
    ));
}

fn measure(stage: &str, bytes: usize, mut work: impl FnMut()) {
    work();
    let times = (0..ROUNDS).map(|_| timed(&mut work)).collect();
    report_stage(stage, bytes, median(times));
}

fn compare_coding_with_hashing(body: &Bytes, pool: &BufferPool) -> Result<(), Box<dyn std::error::Error>> {
    let scheme = Scheme::new(8, 4).ok_or("rs-8-4 is a scheme")?;
    let coder = Coder::new(scheme)?.with_pool(pool);
    for len in [1 << 20, 8 << 20, BODY_BYTES] {
        let buffer = body.slice(..len);
        let data = coder.data_shards(&buffer, scheme.shard_len(len));
        let repeats = (BODY_BYTES / len).max(2);
        let encode = || timed(|| (0..repeats).for_each(|_| consume(coder.parity(&data))));
        let hash = || timed(|| (0..repeats).for_each(|_| consume(blake3::hash(&buffer))));
        consume((encode(), hash()));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            a.push(encode());
            b.push(hash());
            b.push(hash());
            a.push(encode());
        }
        let bytes = (repeats * len) as f64;
        let (encode, hash) = (bytes / median(a).as_secs_f64() / 1e9, bytes / median(b).as_secs_f64() / 1e9);
        report(&format!(
            "{{\"bench\":\"rs-8-4 against blake3\",\"buffer_bytes\":{len},\"encode_gb_per_s\":{encode:.3},\
             \"blake3_gb_per_s\":{hash:.3},\"ratio\":{:.3},\"target_ratio\":0.8}}",
            encode / hash
        ));
    }
    Ok(())
}

fn hashes(body: &Bytes) {
    let len = body.len();
    measure("md5", len, || consume(Md5::digest(body)));
    measure("sha256", len, || consume(Sha256::digest(body)));
    measure("crc32c", len, || consume(crc32c::crc32c(body)));
    measure("blake3 whole body in frames", len, || {
        let mut hasher = blake3::Hasher::new();
        body.chunks(FRAME_BYTES).for_each(|frame| consume(hasher.update(frame)));
        black_box(hasher.finalize());
    });
    for (name, piece) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let stage = format!("blake3 of {name} pieces");
        measure(&stage, len, || body.chunks(piece).for_each(|chunk| consume(blake3::hash(chunk))));
    }
}

fn stages(body: &Bytes, pool: &BufferPool) -> Result<(), Box<dyn std::error::Error>> {
    let len = body.len();
    measure("fastcdc", len, || {
        let mut cutter = Cutter::default();
        let (mut start, mut seen) = (0, 0);
        while seen < len {
            seen = len.min(seen + FRAME_BYTES);
            while let Some(cut) = cutter.scan(&body[start..seen]) {
                start += cut;
            }
        }
        black_box(start);
    });
    measure("fastcdc crate, whole buffer", len, || {
        let cuts = fastcdc::v2020::FastCDC::new(body, 256 << 10, 1 << 20, 4 << 20);
        black_box(cuts.count());
    });
    for (name, pool) in [("fresh", &BufferPool::default()), ("pooled", pool)] {
        measure(&format!("copy into a {name} pack buffer"), len, || {
            let mut buffer = PackBuffer::with_capacity(len, pool);
            body.chunks(FRAME_BYTES).for_each(|frame| buffer.extend_from_slice(frame));
            black_box(buffer.len());
        });
    }
    for (k, m) in [(4, 2), (8, 4)] {
        let scheme = Scheme::new(k, m).ok_or("a scheme")?;
        let coder = Coder::new(scheme)?.with_pool(pool);
        let data = coder.data_shards(body, scheme.shard_len(len));
        measure(&format!("{scheme} parity"), len, || consume(coder.parity(&data)));
        let encoded = coder.encode_payload(body, len)?;
        measure(&format!("{scheme} shard roots"), len, || {
            encoded.shards.iter().for_each(|shard| consume(blake3::hash(shard)));
        });
        measure(&format!("{scheme} parity and roots"), len, || consume(coder.encode_payload(body, len)));
        let have: Vec<(u8, Bytes)> = (1..=k).map(|at| (at, encoded.shards[usize::from(at)].clone())).collect();
        measure(&format!("{scheme} reconstruct one data shard"), len / usize::from(k), || {
            consume(coder.reconstruct_range(0, &have));
        });
    }
    Ok(())
}

/// CPU per small body: cut, hashed, sealed 16 to a pack and coded, without any IO.
fn small_bodies(pool: &BufferPool) -> Result<(), Box<dyn std::error::Error>> {
    const TO_A_PACK: u64 = 16;
    const PACKS: u64 = 200;
    let coder = Coder::new(Scheme::new(1, 2).ok_or("a scheme")?)?.with_pool(pool);
    for len in [4 << 10, 64 << 10] {
        let body = noise(len);
        let run = || -> Result<(), WriteError> {
            let mut writer = PackWriter::new([1; 32], PackTarget::MAX).with_pool(pool);
            for pack in 0..PACKS {
                for tag in pack * TO_A_PACK..(pack + 1) * TO_A_PACK {
                    writer.begin_body(BodyTag(tag), Epoch(1), Some(len as u64))?;
                    writer.write(&body)?;
                    writer.end_body()?;
                }
                consume(writer.seal()?.map(|pack| coder.encode(&pack)));
            }
            Ok(())
        };
        run()?;
        let time = median((0..ROUNDS).map(|_| timed(run)).collect());
        let micros = time.as_secs_f64() * 1e6 / (PACKS * TO_A_PACK) as f64;
        report(&format!(
            "{{\"bench\":\"small body\",\"bytes\":{len},\"to_a_pack\":{TO_A_PACK},\"scheme\":\"rs-1-2\",\"cpu_us_per_body\":{micros:.2}}}"
        ));
    }
    Ok(())
}

/// Body to sealed packs, in frames.
fn chunk_and_pack(body: &Bytes, target: usize, pool: &BufferPool) -> Result<Vec<SealedPack>, WriteError> {
    let mut writer = PackWriter::new([1; 32], PackTarget::for_body(body.len() as u64, target)).with_pool(pool);
    writer.begin_body(BodyTag(1), Epoch(1), Some(body.len() as u64))?;
    let mut packs = Vec::new();
    for frame in body.chunks(FRAME_BYTES) {
        packs.extend(writer.write(frame)?);
    }
    packs.extend(writer.end_body()?.1);
    packs.extend(writer.seal()?);
    Ok(packs)
}

fn pipelines(body: &Bytes, pool: &BufferPool) -> Result<(), Box<dyn std::error::Error>> {
    let len = body.len();
    let coder = Coder::new(Scheme::new(4, 2).ok_or("a scheme")?)?.with_pool(pool);
    for target in [16 << 20, 32 << 20] {
        chunk_and_pack(body, target, pool)?;
        let mib = target >> 20;
        measure(&format!("copy, cut, hash, seal ({mib} MiB packs)"), len, || {
            consume(chunk_and_pack(body, target, pool));
        });
        measure(&format!("pipeline to rs-4-2 shards ({mib} MiB packs)"), len, || {
            for pack in chunk_and_pack(body, target, pool).into_iter().flatten() {
                consume(coder.encode(&pack));
            }
        });
    }
    Ok(())
}
