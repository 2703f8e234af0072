//! A folder over a pair of pipes: the mover beside the volumes is at one end and has no disk, the folder is at the other. Each
//! request is answered before the next one, so what the mover was told is stored is stored.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Progress,
    failure::Failure,
    folder::{Folder, Shelf, sha256},
};

/// Version of what is said.
const VERSION: i64 = 1;
/// Longest head of a message.
const MAX_HEAD: u32 = 64 << 10;
/// Longest body of a message.
const MAX_BODY: u64 = 512 << 20;

/// The first words, from the end with the folder. The key never lies on a disk for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    version: i64,
    /// The repository key.
    pub key: String,
}

/// What the mover asks.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    List { kind: String },
    Read { kind: String, name: String },
    Range { kind: String, name: String, offset: u64, length: u64 },
    Write { kind: String, name: String },
    Done { outcome: String },
}

/// What it is told; what was asked for follows as the body.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Here,
    NotFound,
    Failed(String),
}

/// Names and sizes.
type Listed = Vec<(String, u64)>;

/// Lets a mover write an epoch's repository into the folder, until it says how it ended: the text of its outcome.
pub fn serve(
    folder: &Folder,
    shelf: &Shelf,
    key: &str,
    mut from: impl Read,
    mut to: impl Write,
    progress: &Progress,
) -> Result<String, Failure> {
    progress.begin(0, 0);
    let broken = |error: io::Error| Failure::Broken(format!("the mover is out of reach ({error})"));
    say(&mut to, &Hello { version: VERSION, key: key.to_owned() }, &[]).map_err(broken)?;
    loop {
        let (request, body): (Request, Vec<u8>) = hear(&mut from).map_err(broken)?;
        if let Request::Done { outcome } = request {
            say(&mut to, &Answer::Here, &[]).map_err(broken)?;
            return Ok(outcome);
        }
        let (answer, content) = match answer(folder, shelf, request, &body, progress) {
            Ok(Some(content)) => (Answer::Here, content),
            Ok(None) => (Answer::NotFound, vec![]),
            Err(failure) => {
                // The mover ends with it, and so does this end: its own sentence says more.
                let _ = say(&mut to, &Answer::Failed(failure.to_string()), &[]);
                return Err(failure);
            }
        };
        say(&mut to, &answer, &content).map_err(broken)?;
    }
}

fn answer(
    folder: &Folder,
    shelf: &Shelf,
    request: Request,
    body: &[u8],
    progress: &Progress,
) -> Result<Option<Vec<u8>>, Failure> {
    let path = |kind: &str, name: &str| {
        let full = if kind == "config" { kind.to_owned() } else { format!("{kind}/{name}") };
        let refused =
            || Failure::Internal(format!("the mover asked for '{full}', which is no file of a vault"));
        shelf.path(&full).ok_or_else(refused)
    };
    let read = |kind: &str, name: &str| {
        let path = path(kind, name)?;
        folder.size(&path)?.map(|_| folder.read(&path)).transpose()
    };
    match request {
        Request::List { kind } if kind == "config" => {
            let size = folder.size(&path(&kind, "")?)?;
            let listed: Listed = size.map(|size| (kind, size)).into_iter().collect();
            Ok(Some(json(&listed)?))
        }
        Request::List { kind } => Ok(Some(json(&folder.objects(shelf, &kind)?)?)),
        Request::Read { kind, name } => read(&kind, &name),
        Request::Range { kind, name, offset, length } => {
            let part = |content: Vec<u8>| {
                let from = usize::try_from(offset).ok()?;
                let to = from.checked_add(usize::try_from(length).ok()?)?;
                content.get(from..to).map(<[u8]>::to_vec)
            };
            Ok(read(&kind, &name)?.and_then(part))
        }
        Request::Write { kind, name } => {
            if kind != "config" && sha256(body) != name {
                return Err(Failure::Broken(format!("{kind}/{name} was damaged on its way")));
            }
            let path = path(&kind, &name)?;
            if folder.size(&path)? != Some(body.len() as u64) {
                folder.write(&path, body)?;
                progress.moved(body.len() as u64);
            }
            progress.done(body.len() as u64);
            Ok(Some(vec![]))
        }
        Request::Done { .. } => Ok(Some(vec![])),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::Internal(error.to_string()))
}

/// Why the mover's end of the line has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The file is not in the folder, or shorter.
    #[error("{0} is not in the folder, or is shorter")]
    NotFound(String),
    /// The other end failed, or is gone.
    #[error("{0}")]
    Broken(String),
}

/// The mover's end.
#[derive(Debug)]
pub struct Far<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Far<R, W> {
    /// Waits for the other end's first words.
    pub fn begin(mut from: R, to: W) -> Result<(Self, Hello), LineError> {
        let (hello, _): (Hello, Vec<u8>) = hear(&mut from)?;
        if hello.version == VERSION {
            Ok((Self { from, to }, hello))
        } else {
            let text = format!(
                "the plugin speaks version {}, and this mover {VERSION}: use those of one release",
                hello.version
            );
            Err(LineError::Broken(text))
        }
    }

    /// Names and sizes of all files of a kind.
    pub fn list(&mut self, kind: &str) -> Result<Listed, LineError> {
        let content = self.ask(&Request::List { kind: kind.to_owned() }, &[])?;
        serde_json::from_slice(&content).map_err(|error| LineError::Broken(error.to_string()))
    }

    /// A whole file.
    pub fn read(&mut self, kind: &str, name: &str) -> Result<Vec<u8>, LineError> {
        self.ask(&Request::Read { kind: kind.to_owned(), name: name.to_owned() }, &[])
    }

    /// A part of a file.
    pub fn range(&mut self, kind: &str, name: &str, offset: u64, length: u64) -> Result<Vec<u8>, LineError> {
        self.ask(&Request::Range { kind: kind.to_owned(), name: name.to_owned(), offset, length }, &[])
    }

    /// Stores a file; it is durable when this returns.
    pub fn write(&mut self, kind: &str, name: &str, content: &[u8]) -> Result<(), LineError> {
        self.ask(&Request::Write { kind: kind.to_owned(), name: name.to_owned() }, content).map(drop)
    }

    /// Says how it ended.
    pub fn finish(&mut self, outcome: String) -> Result<(), LineError> {
        self.ask(&Request::Done { outcome }, &[]).map(drop)
    }

    fn ask(&mut self, request: &Request, body: &[u8]) -> Result<Vec<u8>, LineError> {
        say(&mut self.to, request, body)?;
        let (answer, content): (Answer, Vec<u8>) = hear(&mut self.from)?;
        match answer {
            Answer::Here => Ok(content),
            Answer::NotFound => Err(LineError::NotFound(format!("{request:?}"))),
            Answer::Failed(why) => Err(LineError::Broken(why)),
        }
    }
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("the other end of the line is gone: {error}"))
    }
}

/// A head and a body, each behind its length.
fn say<T: Serialize>(to: &mut impl Write, head: &T, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&head)?;
    to.write_all(&(body.len() as u64).to_be_bytes())?;
    to.write_all(body)?;
    to.flush()
}

fn hear<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_HEAD {
        return Err(io::Error::other("what came is no message of this program"));
    }
    let mut head = vec![0; length as usize];
    from.read_exact(&mut head)?;
    let head = serde_json::from_slice(&head)?;
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > MAX_BODY {
        return Err(io::Error::other("what came is larger than any file of a vault"));
    }
    let mut body = vec![];
    from.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length { Ok((head, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
