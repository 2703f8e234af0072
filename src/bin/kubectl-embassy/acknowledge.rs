//! Asks in words, so that nobody gives an order by a slip of the hand.

use std::io::{BufRead, Write};

use clap::Args;

use super::{Failure, register::Name};

/// A register, and a change of it that a person must ask for in words.
#[derive(Args)]
pub struct Acknowledged {
    /// Which one.
    #[command(flatten)]
    pub register: Name,
    /// In which words.
    #[command(flatten)]
    pub acknowledgement: Acknowledgement,
}

/// How the sentence is given.
#[derive(Args)]
pub struct Acknowledgement {
    /// The sentence that would be asked for, for scripts.
    #[arg(long)]
    acknowledge: Option<String>,
}

impl Acknowledgement {
    /// Ends with an error, before anything is written, unless the very sentence is given.
    pub fn ask(&self, sentence: &str) -> Result<(), Failure> {
        if let Some(given) = &self.acknowledge {
            if given != sentence {
                return Err(format!("nothing was done: --acknowledge must be exactly '{sentence}'").into());
            }
            return Ok(());
        }
        print!("Type '{sentence}' to go on: ");
        std::io::stdout().flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        if line.trim() == sentence { Ok(()) } else { Err("not acknowledged: nothing was done".into()) }
    }
}
