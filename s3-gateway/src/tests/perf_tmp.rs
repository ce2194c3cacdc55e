//! Ad hoc CPU figures.
use super::{cluster_with, noise, small_config};

fn cpu() -> f64 {
    let t = std::process::Command::new("true").status(); drop(t);
    let s = String::from_utf8(std::process::Command::new("cat").arg(format!("/proc/{}/stat", std::process::id())).output().unwrap().stdout).unwrap();
    let f: Vec<&str> = s.rsplit(") ").next().unwrap().split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn figures() {
    use md5::Digest;
    let mut c = cluster_with(small_config(), "rs-4-2", 6).await;
    let threads = crate::api::Cpu::Threads(std::num::NonZeroUsize::new(2).unwrap());
    std::sync::Arc::get_mut(&mut c.gw).unwrap().cpu = crate::cpu::CpuPool::start(threads).unwrap();
    let bytes = noise(4, 64 << 20);
    let rounds = 12;
    let t = cpu();
    for _ in 0..rounds { std::hint::black_box(md5::Md5::digest(&bytes)); }
    let md5 = cpu() - t;
    let t = cpu();
    for _ in 0..rounds { std::hint::black_box(blake3::hash(&bytes)); }
    let b3 = cpu() - t;
    let t = cpu(); let w = std::time::Instant::now();
    for n in 0..rounds { c.put(&format!("k{n}"), &bytes).await.unwrap(); }
    let put = cpu() - t; let pw = w.elapsed();
    let t = cpu(); let w = std::time::Instant::now();
    for n in 0..rounds {
        let reply = crate::get::get_object(&c.gw, crate::api::GetRequest::current("b", format!("k{n}"))).await.unwrap();
        let mut body = reply.body; let mut len = 0;
        while let Some(p) = futures::StreamExt::next(&mut body).await { len += p.unwrap().len(); }
        assert_eq!(len, 64 << 20);
    }
    let get = cpu() - t; let gww = w.elapsed();
    println!("md5 {md5:.2} b3 {b3:.2} put {put:.2} ({:.2}x md5, wall {pw:?}) get {get:.2} ({:.2}x b3, wall {gww:?})", put / md5, get / b3);
    let small = noise(5, 4096);
    let t = cpu(); let w = std::time::Instant::now();
    for n in 0..5000 { c.put(&format!("s{}", n % 100), &small).await.unwrap(); }
    println!("4k put {:.1} us cpu, {:.1} us wall", (cpu() - t) / 5000.0 * 1e6, w.elapsed().as_secs_f64() / 5000.0 * 1e6);
    let t = cpu(); let w = std::time::Instant::now();
    for n in 0..5000 { c.get(&format!("s{}", n % 100)).await.unwrap(); }
    println!("4k get {:.1} us cpu, {:.1} us wall", (cpu() - t) / 5000.0 * 1e6, w.elapsed().as_secs_f64() / 5000.0 * 1e6);
}
