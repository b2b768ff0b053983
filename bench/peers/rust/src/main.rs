// What a pick of Rust's weighted pickers costs. Arguments: endpoints, picks. Prints a line of JSON: ns by picker.

use pingora_load_balancing::selection::{BackendIter, BackendSelection, Random, RoundRobin};
use pingora_load_balancing::Backend;
use rand::{rngs::SmallRng, SeedableRng};
use rand_distr::{weighted::WeightedAliasIndex, Distribution};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

// The same weights 1 to 100 in all languages.
fn weight(index: u32) -> usize {
    (1 + (index.wrapping_mul(2654435761) >> 16) % 100) as usize
}

fn measure<F: FnMut()>(picks: u32, mut pick: F) -> f64 {
    for _ in 0..picks / 10 {
        pick();
    }
    let begun = Instant::now();
    for _ in 0..picks {
        pick();
    }
    begun.elapsed().as_nanos() as f64 / picks as f64
}

fn main() {
    let arguments: Vec<u32> = std::env::args().skip(1).map(|one| one.parse().unwrap()).collect();
    let (endpoints, picks) = (arguments[0], arguments[1]);
    let backends: BTreeSet<Backend> = (0..endpoints)
        .map(|index| {
            let address = format!("10.{}.{}.{}:80", index >> 16, index >> 8 & 255, index & 255);
            Backend::new_with_weight(&address, weight(index)).unwrap()
        })
        .collect();
    let turns = Arc::new(RoundRobin::build(&backends));
    let drawn = Arc::new(Random::build(&backends));
    let alias = WeightedAliasIndex::new((0..endpoints).map(|index| weight(index) as u32).collect()).unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    let round_robin = measure(picks, || {
        black_box(turns.iter(b"").next());
    });
    let random = measure(picks, || {
        black_box(drawn.iter(b"").next());
    });
    let aliased = measure(picks, || {
        black_box(alias.sample(&mut rng));
    });
    println!(
        "{{\"Pingora round robin\": {round_robin:.3}, \"Pingora random\": {random:.3}, \"rand_distr alias\": {aliased:.3}}}"
    );
}
