//! What else the resolver costs: `resolver_figures PEOPLE < rules.json` prints figures as JSON.
//!
//! Estimate, for 1,000,000 people of three identifiers: 5,000,000 rows; a table look-up that
//! misses the cache and a row to parse are 200 ns, walking each hull once 100 ns an identifier, so
//! about 1.3 s to load. Known people in random order: four look-ups a pair that miss, 64
//! observations at a time, so about 600 ns. A hull of 4,000 identifiers: a few ms.

use std::error::Error;
use std::hint::black_box;
use std::io::{Read, stdin};
use std::time::Instant;

use matcher_core::{Batch, Resolver, Row, Rules};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const START_US: i64 = 1_760_000_000_000_000;
const USER_ID: u8 = 0;
const EMAIL: u8 = 1;
const PHONE: u8 = 2;
const ANONYMOUS_ID: u8 = 6;
const IDENTIFY: u8 = 1;
const MANUAL_UNLINK: u8 = 6;
const BATCH: u64 = 4_096;
const REPEATS: u32 = 9;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let people: u64 = std::env::args().nth(1).ok_or("give the number of people")?.parse()?;
    let mut text = String::new();
    stdin().read_to_string(&mut text)?;
    let rules = Rules::from_json(&text)?;

    let mut first = Resolver::new(SECRET, rules.clone())?;
    let mut rows: Vec<Row> = Vec::new();
    for start in (0..people).step_by(BATCH as usize) {
        let done = first.resolve(&identify(start..people.min(start + BATCH), false)?)?;
        rows.extend(done.rows);
    }
    drop(first);
    rows.sort_unstable(); // as a store returns them: identifiers do not come as they were seen
    let rows = Flat::of(&rows);
    let began = Instant::now();
    let mut resolver = Resolver::new(SECRET, rules.clone())?;
    for (key, value) in rows.iter() {
        resolver.load(key, value)?;
    }
    resolver.finish_load()?;
    let load_s = began.elapsed().as_secs_f64();
    let numbers = resolver.statistics();
    let random_per_s = known_in_random_order(&mut resolver, people)?;
    let phones_per_s = phones(rules.clone())?;
    let (explain_ms, unmerge_ms) = contested(rules)?;
    println!(
        "{{\"rows\": {}, \"load_s\": {load_s:.3}, \"nodes\": {}, \"counted_bytes\": {:.1}, \
         \"random_per_s\": {random_per_s:.0}, \
         \"phones_per_s\": {phones_per_s:.0}, \"explain_ms\": {explain_ms:.2}, \
         \"unmerge_ms\": {unmerge_ms:.2}}}",
        rows.ends.len(),
        numbers.nodes,
        numbers.memory_bytes as f64 / numbers.nodes as f64,
    );
    Ok(())
}

fn identify(people: impl Iterator<Item = u64>, phone: bool) -> Outcome<Batch> {
    let mut batch = Batch::new();
    for person in people {
        batch.observe(START_US + person as i64, IDENTIFY, 0)?;
        batch.name(USER_ID, &format!("customer-{person}"));
        batch.name(ANONYMOUS_ID, &format!("{person:08x}-5d0e-4b51-9f0c-0123456789ab"));
        if phone {
            batch.name(PHONE, &format!("+1 650 253 {:04}", person % 10_000));
        } else {
            batch.name(EMAIL, &format!("customer{person}@shop.example"));
        }
    }
    Ok(batch)
}

fn known_in_random_order(resolver: &mut Resolver, people: u64) -> Outcome<f64> {
    let mut at = 1_u64;
    let (mut spent_s, mut resolved) = (0.0, 0);
    for _ in 0..100 {
        let people: Vec<u64> = (0..BATCH)
            .map(|_| {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
                (at >> 33) % people
            })
            .collect();
        let batch = identify(people.into_iter(), false)?;
        let began = Instant::now();
        black_box(resolver.resolve(&batch)?);
        spent_s += began.elapsed().as_secs_f64();
        resolved += batch.len();
    }
    Ok(resolved as f64 / spent_s)
}

fn phones(rules: Rules) -> Outcome<f64> {
    let mut resolver = Resolver::new(SECRET, rules)?;
    let batch = identify(0..BATCH, true)?;
    resolver.resolve(&batch)?;
    let began = Instant::now();
    for _ in 0..20 {
        black_box(resolver.resolve(&batch)?);
    }
    Ok(20.0 * BATCH as f64 / began.elapsed().as_secs_f64())
}

/// Four users on one phone number with 1,000 devices each: the medians of asking why and of parting.
fn contested(rules: Rules) -> Outcome<(f64, f64)> {
    let mut resolver = Resolver::new(SECRET, rules)?;
    let mut batch = Batch::new();
    for person in 0..4 {
        let user = format!("customer-{person}");
        batch.observe(START_US, IDENTIFY, 0)?;
        batch.name(USER_ID, &user);
        batch.name(PHONE, "+16502530000");
        for device in 0..1_000 {
            batch.observe(START_US, IDENTIFY, 0)?;
            batch.name(USER_ID, &user);
            batch.name(ANONYMOUS_ID, &format!("device-{person}-{device}"));
        }
    }
    resolver.resolve(&batch)?;
    let user = resolver.node(USER_ID, "customer-0").ok_or("a user id is usable")?;
    let (mut explain, mut unmerge) = (Vec::new(), Vec::new());
    for device in 0..REPEATS {
        let began = Instant::now();
        black_box(resolver.explain(user));
        explain.push(began.elapsed().as_secs_f64() * 1e3);
        let mut parting = Batch::new();
        parting.observe(START_US + 1, MANUAL_UNLINK, 0)?;
        parting.name(USER_ID, "customer-0");
        parting.name(ANONYMOUS_ID, &format!("device-0-{device}"));
        let began = Instant::now();
        black_box(resolver.resolve(&parting)?);
        unmerge.push(began.elapsed().as_secs_f64() * 1e3);
    }
    explain.sort_by(f64::total_cmp);
    unmerge.sort_by(f64::total_cmp);
    Ok((explain[REPEATS as usize / 2], unmerge[REPEATS as usize / 2]))
}

/// Rows one after the other in one piece, so that reading them costs nothing.
struct Flat {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Flat {
    fn of(rows: &[Row]) -> Self {
        let mut flat = Self { bytes: Vec::new(), ends: Vec::new() };
        for (key, value) in rows {
            flat.bytes.extend_from_slice(key);
            let end = flat.bytes.len();
            flat.bytes.extend_from_slice(value);
            flat.ends.push((end, flat.bytes.len()));
        }
        flat
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let ranges = starts.zip(&self.ends);
        ranges
            .map(|(start, (middle, end))| (&self.bytes[start..*middle], &self.bytes[*middle..*end]))
    }
}
