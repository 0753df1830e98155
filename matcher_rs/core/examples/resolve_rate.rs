//! How fast the resolver is alone: `resolve_rate PEOPLE ROUNDS < rules.json` prints figures as JSON.
//!
//! Three observations a person (a page without a name, an identify, an order), first of people who
//! are new, then of the same people again. Making the observations is not counted.

use std::error::Error;
use std::hint::black_box;
use std::io::{Read, stdin};
use std::time::{Duration, Instant};

use matcher_core::{Batch, Resolver, Rules};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const PEOPLE_PER_BATCH: u64 = 1_365; // about 4,096 observations
const START_US: i64 = 1_760_000_000_000_000;
const USER_ID: u8 = 0;
const EMAIL: u8 = 1;
const ANONYMOUS_ID: u8 = 6;
const CO_OCCUR: u8 = 0;
const IDENTIFY: u8 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let people: u64 = arguments.next().ok_or("give the number of people")?.parse()?;
    let rounds: u32 = arguments.next().ok_or("give the number of rounds")?.parse()?;
    let mut rules = String::new();
    stdin().read_to_string(&mut rules)?;
    let mut resolver = Resolver::new(SECRET, Rules::from_json(&rules)?)?;

    let new_per_s = rate(&mut resolver, people, 1)?;
    let known_per_s = rate(&mut resolver, people, rounds)?;
    let numbers = resolver.statistics();
    println!(
        "{{\"new_per_s\": {new_per_s:.0}, \"known_per_s\": {known_per_s:.0}, \"nodes\": {}, \"bytes\": {}}}",
        numbers.nodes, numbers.memory_bytes
    );
    Ok(())
}

fn rate(resolver: &mut Resolver, people: u64, rounds: u32) -> Result<f64, Box<dyn Error>> {
    let mut spent = Duration::ZERO;
    let mut resolved = 0;
    for _ in 0..rounds {
        for first in (0..people).step_by(PEOPLE_PER_BATCH as usize) {
            let batch = observations(first, people.min(first + PEOPLE_PER_BATCH))?;
            let began = Instant::now();
            black_box(resolver.resolve(&batch)?);
            spent += began.elapsed();
            resolved += batch.len();
        }
    }
    Ok(resolved as f64 / spent.as_secs_f64())
}

fn observations(first: u64, end: u64) -> Result<Batch, Box<dyn Error>> {
    let mut batch = Batch::new();
    for person in first..end {
        let time_us = START_US + person as i64 * 1_000_000;
        let device = format!("{person:08x}-5d0e-4b51-9f0c-{:012x}", person * 7919 % (1 << 48));
        let user = format!("customer-{person}");
        batch.observe(time_us, CO_OCCUR, 0)?;
        batch.name(ANONYMOUS_ID, &device);
        batch.observe(time_us + 1, IDENTIFY, 0)?;
        batch.name(USER_ID, &user);
        batch.name(ANONYMOUS_ID, &device);
        batch.name(EMAIL, &format!("customer{person}@shop.example"));
        batch.observe(time_us + 2, CO_OCCUR, 0)?;
        batch.name(USER_ID, &user);
    }
    Ok(batch)
}
