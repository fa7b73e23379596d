//! Another library in a process of its own: one that takes too long is ended, one that wants too much memory ends itself.

use std::{
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use crate::differ::Outcome;

/// The argument that makes a binary of the oracles the process apart.
pub const APART: &str = "--apart";

/// The process apart: a path a line on its standard input, an outcome each on its standard output.
pub fn serve(read: impl Fn(&Path) -> Outcome) {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { return };
        if write(&mut out, &read(Path::new(&line))).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Whoever asks a process apart.
#[derive(Debug)]
pub struct Apart {
    patience: Duration,
    kilobytes: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<Outcome>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Apart {
    /// Nothing runs until something is asked.
    pub fn new(patience: Duration, kilobytes: u64) -> Self {
        Apart { patience, kilobytes, running: None }
    }

    /// What the other process makes of a file, or why there is no answer.
    pub fn ask(&mut self, path: &Path) -> Result<Outcome, &'static str> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(start(self.kilobytes).ok_or("the process apart does not start")?),
        };
        let asked = writeln!(running.questions, "{}", path.display()).and_then(|()| running.questions.flush());
        let answer = match asked {
            Ok(()) => running.answers.recv_timeout(self.patience),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        answer.map_err(|e| {
            self.running = None;
            match e {
                RecvTimeoutError::Timeout => "no answer there in time",
                RecvTimeoutError::Disconnected => "out of memory there: the process ended",
            }
        })
    }
}

fn start(kilobytes: u64) -> Option<Running> {
    let own = std::env::current_exe().ok()?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {kilobytes}; exec \"$0\" {APART}")])
        .arg(own)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let (questions, answers) = (child.stdin.take()?, child.stdout.take()?);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = BufReader::new(answers);
        while let Ok(outcome) = read(&mut answers) {
            if send.send(outcome).is_err() {
                return;
            }
        }
    });
    Some(Running { child, questions, answers: receive })
}

fn write(out: &mut impl Write, outcome: &Outcome) -> std::io::Result<()> {
    let (kind, shape, bytes): (u8, &[usize], Vec<u8>) = match outcome {
        Outcome::Values(shape, values) => (0, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Outcome::Refused(reason) => (1, &[], reason.clone().into_bytes()),
        Outcome::Panicked(place) => (2, &[], place.clone().into_bytes()),
    };
    out.write_all(&[kind, shape.len() as u8])?;
    for n in shape.iter().copied().chain([bytes.len()]) {
        out.write_all(&(n as u64).to_le_bytes())?;
    }
    out.write_all(&bytes)
}

fn read(from: &mut impl Read) -> std::io::Result<Outcome> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let mut number = || -> std::io::Result<usize> {
        let mut n = [0; 8];
        from.read_exact(&mut n)?;
        Ok(u64::from_le_bytes(n) as usize)
    };
    let shape = (0..head[1]).map(|_| number()).collect::<std::io::Result<Vec<_>>>()?;
    let mut bytes = vec![0; number()?];
    from.read_exact(&mut bytes)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match head[0] {
        0 => Outcome::Values(shape, bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        1 => Outcome::Refused(text(&bytes)),
        _ => Outcome::Panicked(text(&bytes)),
    })
}
