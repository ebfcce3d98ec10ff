//! What a person sees.

use std::io::{IsTerminal, Write, stdout};

/// A line that begins a chapter.
pub fn heading(text: &str) {
    let (bold, plain) = if stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    say(&format!("\n{bold}── {text}{plain}\n"));
}

/// A line of what is going on.
pub fn say(text: &str) {
    println!("{text}");
    // psql writes to the same place: what stands here first must be seen first.
    let _ = stdout().flush();
}
