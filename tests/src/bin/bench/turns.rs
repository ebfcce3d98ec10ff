//! Measuring by turns.

use harness::interrupt;

/// Measures alternatives in turns, A B A B …, so that whatever changes meanwhile on the machine hits all alike.
/// Returns the samples of each.
pub fn in_turns<A, S>(
    what: &str,
    repetitions: usize,
    alternatives: &[A],
    mut measure: impl FnMut(&A) -> Result<S, String>,
) -> Result<Vec<Vec<S>>, String> {
    let mut samples: Vec<Vec<S>> = alternatives.iter().map(|_| Vec::new()).collect();
    for repetition in 1..=repetitions {
        eprintln!("bench:   {what}, {repetition} of {repetitions}");
        for (alternative, samples) in alternatives.iter().zip(&mut samples) {
            interrupt::check()?;
            samples.push(measure(alternative)?);
        }
    }
    Ok(samples)
}
