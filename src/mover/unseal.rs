//! The key of a sealed copy, brought by a person. The mover that waits for it makes an identity that lives in its memory only, and
//! what is brought is sealed to that: neither the API server nor any disk of the host ever has the key.
//!
//! The two processes, the mover and the one that a person runs beside it, meet in a folder in memory.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::failure::Failure;
use crate::trust::sealing::{SiteIdentity, open};

/// Whom the key is to be sealed for.
const RECIPIENT: &str = "recipient";
/// The key that was brought.
const SEALED: &str = "sealed";
/// What became of it.
const ANSWER: &str = "answer";
/// Between two looks into the folder.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a mover may take to begin to wait.
const BEGINS: Duration = Duration::from_secs(20);
/// How long it may take to try a key, which asks the vault.
const ANSWERS: Duration = Duration::from_mins(2);
/// Last line of an armored seal.
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Longest seal of a key, in bytes.
const LONGEST: usize = 64 * 1024;

/// The answer to a key that is right.
pub const TAKEN: &str = "the key opens the repository";

/// Waits until a key comes that `opens` the repository, however many do not.
pub(super) fn wait(folder: &Path, opens: impl Fn(&str) -> Result<(), Failure>) -> Result<String, Failure> {
    let identity = SiteIdentity::generate();
    publish(folder, RECIPIENT, &identity.recipient()).map_err(|error| unusable(&error))?;
    tracing::info!("this site has no key of the repository: waiting for kubectl embassy unseal");
    loop {
        let brought = take(&folder.join(SEALED)).map_err(|error| unusable(&error))?;
        match brought.map(|sealed| tried(&identity, &sealed, &opens)) {
            None => thread::sleep(PAUSE),
            Some(Ok(key)) => {
                take(&folder.join(RECIPIENT)).map_err(|error| unusable(&error))?;
                publish(folder, ANSWER, TAKEN).map_err(|error| unusable(&error))?;
                tracing::info!("{TAKEN}");
                return Ok(key);
            }
            Some(Err(failure)) => {
                publish(folder, ANSWER, &failure.to_string()).map_err(|error| unusable(&error))?;
                let Failure::Key(why) = failure else { return Err(failure) };
                tracing::warn!(
                    why,
                    "a key was brought that does not open the repository: waiting for another one"
                );
            }
        }
    }
}

fn tried(
    identity: &SiteIdentity,
    sealed: &str,
    opens: impl Fn(&str) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let opened = open(identity, sealed).map_err(|error| Failure::Key(error.to_string()))?;
    let key = String::from_utf8_lossy(&opened).into_owned();
    opens(&key)?;
    Ok(key)
}

fn unusable(error: &io::Error) -> Failure {
    Failure::Internal(format!("cannot use the folder through which the key comes: {error}"))
}

/// Arguments of the process beside the mover.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The folder of the mover that waits.
    #[arg(long, default_value = crate::plan::desired::jobs::UNSEAL)]
    pub folder: PathBuf,
}

/// Why a key was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// No mover is there.
    #[error("no mover waits for a key here: it has one by now, or has ended")]
    NobodyWaits,
    /// What came is no seal.
    #[error("what came on standard input is no sealed key")]
    NoSeal,
    /// The mover said so.
    #[error("{0}")]
    Refused(String),
    /// The mover said nothing.
    #[error("the mover did not try the key: see the log of its Pod")]
    NoAnswer,
    /// A file or a stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Prints the recipient, takes the key that is sealed for it from standard input, and says what the mover made of it.
pub fn bring(arguments: &Arguments) -> Result<(), UnsealError> {
    let folder = &arguments.folder;
    let recipient = until(BEGINS, || fs::read_to_string(folder.join(RECIPIENT)).ok());
    println!("{}", recipient.ok_or(UnsealError::NobodyWaits)?);
    io::stdout().flush()?;
    let sealed = seal_from(io::stdin().lines())?;
    take(&folder.join(ANSWER))?;
    publish(folder, SEALED, &sealed)?;
    let answer = until(ANSWERS, || take(&folder.join(ANSWER)).ok().flatten());
    match answer.ok_or(UnsealError::NoAnswer)? {
        answer if answer == TAKEN => {
            println!("{answer}");
            Ok(())
        }
        answer => Err(UnsealError::Refused(answer)),
    }
}

/// Up to the last line of the seal: the stream through an API server may never end.
fn seal_from(lines: impl Iterator<Item = io::Result<String>>) -> Result<String, UnsealError> {
    let mut sealed = String::new();
    for line in lines {
        let line = line?;
        sealed.push_str(line.trim_end());
        sealed.push('\n');
        if line.trim_end() == END {
            return Ok(sealed);
        }
        if sealed.len() > LONGEST {
            break;
        }
    }
    Err(UnsealError::NoSeal)
}

fn until<T>(limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > end {
            return found;
        }
        thread::sleep(PAUSE);
    }
}

/// Written whole, or not at all.
fn publish(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, text)?;
    fs::rename(new, folder.join(name))
}

/// Reads a file and removes it.
fn take(path: &Path) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::sealing::seal;

    /// A person brings each of these keys in turn; what the mover answered, and with what it went on.
    fn brought(
        keys: &[&str],
        opens: impl Fn(&str) -> Result<(), Failure> + Send,
    ) -> (Vec<String>, Result<String, Failure>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        thread::scope(|scope| {
            let mover = scope.spawn(|| wait(path, opens));
            let answers = keys.iter().map(|key| {
                let recipient = until(BEGINS, || fs::read_to_string(path.join(RECIPIENT)).ok()).unwrap();
                publish(path, SEALED, &seal(key.as_bytes(), &[&recipient]).unwrap()).unwrap();
                until(BEGINS, || take(&path.join(ANSWER)).unwrap()).unwrap()
            });
            let answers = answers.collect();
            (answers, mover.join().unwrap())
        })
    }

    fn right(key: &str) -> Result<(), Failure> {
        if key == "right" { Ok(()) } else { Err(Failure::Key("wrong".to_owned())) }
    }

    #[test]
    fn a_wrong_key_is_refused_in_words_and_the_next_one_may_be_right() {
        let (answers, key) = brought(&["wrong", "right"], right);
        assert!(answers[0].contains("use the key of this epoch"), "{answers:?}");
        assert_eq!((answers[1].as_str(), key.unwrap().as_str()), (TAKEN, "right"));
    }

    #[test]
    fn a_vault_that_fails_ends_the_run_and_is_no_word_on_the_key() {
        let (answers, key) = brought(&["right"], |_| Err(Failure::Damaged("gone".to_owned())));
        assert!(answers[0].contains("gone"));
        assert!(matches!(key, Err(Failure::Damaged(_))));
    }

    #[test]
    fn what_is_sealed_for_somebody_else_is_refused() {
        let stranger = SiteIdentity::generate().recipient();
        let sealed = seal(b"right", &[&stranger]).unwrap();
        assert!(matches!(tried(&SiteIdentity::generate(), &sealed, right), Err(Failure::Key(_))));
    }

    #[test]
    fn a_seal_ends_with_its_last_line() {
        let sealed = seal(b"key", &[&SiteIdentity::generate().recipient()]).unwrap();
        let endless = sealed.lines().chain(["and", "more"]).map(|line| Ok(line.to_owned()));
        assert_eq!(seal_from(endless).unwrap().trim_end(), sealed.trim_end());
        let nothing = std::iter::repeat_with(|| Ok("x".repeat(100)));
        assert!(matches!(seal_from(nothing), Err(UnsealError::NoSeal)));
    }
}
