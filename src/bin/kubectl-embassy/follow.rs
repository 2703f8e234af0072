//! Follows what was ordered until it ended: each news is one line with the time since.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use super::Failure;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// How far it is.
pub enum Step {
    /// It goes on.
    Going(String),
    /// It ended as ordered.
    Done(String),
    /// It ended otherwise.
    Failed(String),
}

/// Looks again and again. To stop following stops nothing else.
pub async fn follow(mut look: impl AsyncFnMut() -> Result<Step, Failure>) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let mut said = String::new();
    let mut say = |text: &str| {
        if said != text {
            println!("{:>6.1} s  {text}", start.elapsed().as_secs_f64());
            text.clone_into(&mut said);
        }
    };
    loop {
        match look().await? {
            Step::Going(text) => say(&text),
            Step::Done(text) => {
                say(&text);
                return Ok(ExitCode::SUCCESS);
            }
            Step::Failed(text) => {
                say(&text);
                return Ok(ExitCode::FAILURE);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
