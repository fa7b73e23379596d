//! Tries damaged files on every reader and counts: no panic, no hang, no memory beyond the limit.
//!
//!     cargo run --release --bin damaged -- 1000000            # over all readers
//!     cargo run --release --bin damaged -- 1000 nrrd 4711     # of one reader, from number 4711 on
//!
//! Ends with 1 and the reader and number of the input at the first panic of our own, at a request for more
//! memory than the limit allows, and at an input that takes more than 10 seconds.

use std::{
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use dinorad_fuzz::{
    VOXEL_BYTES,
    counted::{self, Counted},
    damage::{Random, damaged},
    readers::READERS,
    seeds, watch,
};

/// One request may be for twice the limit: whole numbers of DICOM take 8 bytes where its values take 4.
const LARGEST: u64 = 2 * VOXEL_BYTES;
/// All that is held at a time: stored numbers, values, a turned copy, the file and what it unpacks to.
const MOST: u64 = 6 * VOXEL_BYTES;
/// Longest that one input may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// The input that is being read: reader, number, since when.
static CURRENT: Mutex<Option<(&str, u64, Instant)>> = Mutex::new(None);

fn current() -> String {
    match CURRENT.lock().as_deref() {
        Ok(Some((name, n, _))) => format!("input {n} of {name}"),
        _ => "no input".into(),
    }
}

fn main() -> ExitCode {
    watch();
    let ours = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // a panic behind a reader's wall says nothing: `ours` ends the process at one of our own
        if std::env::var_os("DINORAD_ALL_PANICS").is_some() {
            eprintln!("{}: {info}", current());
        }
        ours(info);
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let late = matches!(CURRENT.lock().as_deref(), Ok(Some((_, _, since))) if since.elapsed() > PATIENCE);
            if late {
                eprintln!("{} takes more than {PATIENCE:?}", current());
                std::process::exit(1);
            }
        }
    });
    let mut args = std::env::args().skip(1);
    let total: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let only = args.next();
    let first: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let chosen: Vec<_> = READERS.iter().filter(|(name, _)| only.as_deref().is_none_or(|o| o == *name)).collect();
    let each = total.div_ceil(chosen.len().max(1) as u64);
    let mut done = 0;
    println!(
        "{:<14}{:>9} {:>7} {:>9} {:>9} {:>12} {:>12}",
        "reader", "inputs", "seeds", "seconds", "slowest", "largest", "at a time"
    );
    for (name, read) in chosen {
        let seeds = seeds::of(name);
        if seeds.is_empty() {
            eprintln!("no seeds for {name}");
            return ExitCode::FAILURE;
        }
        let (start, mut slowest, mut request, mut peak) = (Instant::now(), Duration::ZERO, 0, 0);
        for n in first..first + each {
            let mut random = Random::new(name, n);
            let input = damaged(&seeds[random.below(seeds.len())], &mut random);
            let began = Instant::now();
            if let Ok(mut now) = CURRENT.lock() {
                *now = Some((name, n, began));
            }
            let before = counted::start();
            read(&input);
            let (one, all) = counted::since(before);
            if one > LARGEST || all > MOST {
                eprintln!("input {n} of {name} asked for {one} bytes at once and {all} in all");
                return ExitCode::FAILURE;
            }
            (request, peak) = (one.max(request), all.max(peak));
            slowest = slowest.max(began.elapsed());
            done += 1;
        }
        if let Ok(mut now) = CURRENT.lock() {
            *now = None;
        }
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64);
        let seconds = start.elapsed().as_secs_f64();
        let slowest = slowest.as_secs_f64();
        println!(
            "{name:<14}{each:>9} {:>7} {seconds:>9.1} {slowest:>8.2}s {:>12} {:>12}",
            seeds.len(),
            mib(request),
            mib(peak)
        );
    }
    println!("{done} damaged inputs, limit {} MiB: no panic, none of more than {PATIENCE:?}", VOXEL_BYTES >> 20);
    ExitCode::SUCCESS
}
