//! The whole terminal as one page that is drawn again and again, as `top` does: on the terminal's second screen, so that what was on
//! the first one is there again afterwards, however the command ends.

use std::{
    io::{self, ErrorKind, IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

use anstream::AutoStream;
use mcpctl_api::visible;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::Tone;

/// Turns to the second screen, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Shows the cursor, and turns back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Moves the cursor home.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line, and the rest of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";
/// Columns and rows where the terminal does not report them.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Keys that wait for the command; further ones wait in the terminal.
const MAX_WAITING_KEYS: usize = 16;

/// How the terminal of standard input was before, while a screen is open. A panic restores it from here.
static BEFORE: Mutex<Option<State>> = Mutex::new(None);

/// What a screen has changed.
struct State {
    /// Of standard input, where that is a terminal.
    input: Option<Termios>,
}

/// A line of a page.
pub struct PageLine {
    /// Its colour.
    pub tone: Tone,
    /// Its text, which may have hidden characters of other parties.
    pub text: String,
}

impl PageLine {
    /// A line in a colour.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// What happened at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScreenEvent {
    /// A key was pressed.
    Key(u8),
    /// It has another size, or was away and has to be drawn anew.
    Redraw,
    /// The command has to end: by a signal, or because the terminal is gone.
    End,
}

/// An open screen; it closes when it is dropped.
pub struct Screen {
    /// `None` where standard input is no terminal.
    keys: Option<mpsc::Receiver<u8>>,
    resized: Signal,
    ends: [Signal; 3],
}

impl Screen {
    /// Opens it on standard output, which is a terminal.
    ///
    /// # Errors
    /// When the terminal cannot be set up.
    pub fn open() -> io::Result<Self> {
        // Before anything is changed that would have to be restored.
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = ends.map(signal);
        let (ends, resized) = ([interrupt?, terminate?, hangup?], signal(SignalKind::window_change())?);
        let stdin = io::stdin();
        let input = match stdin.is_terminal() {
            true => Some(tcgetattr(stdin.as_fd())?),
            false => None,
        };
        restore_after_panics();
        let raw = input.clone().map(|mut raw| {
            // Keys come at once, are not shown, and Ctrl-C is one of them.
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            raw
        });
        *before() = Some(State { input });
        let mut screen = Self { keys: None, resized, ends };
        if let Some(raw) = raw {
            tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw)?;
            screen.keys = Some(read_keys()?);
        }
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(screen)
    }

    /// Columns and rows.
    pub fn size() -> (u16, u16) {
        let size = terminal_size::terminal_size_of(io::stdout());
        let size = size.map(|(terminal_size::Width(columns), terminal_size::Height(rows))| (columns, rows));
        size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(DEFAULT_SIZE)
    }

    /// Draws a page. What does not fit is cut off, in width and in height.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&self, page: &[PageLine]) -> io::Result<()> {
        let (columns, rows) = Self::size();
        let mut out = io::stdout().lock();
        let choice = AutoStream::choice(&out);
        // In one piece, so that no half page shows.
        let mut text = String::from(HOME);
        for (at, line) in page.iter().take(usize::from(rows)).enumerate() {
            // The cursor stays in the last row, which would scroll.
            text.push_str(if at == 0 { "" } else { "\r\n" });
            let shown: String = visible::one_line(&line.text).chars().take(usize::from(columns)).collect();
            text.push_str(&line.tone.paint(&shown, choice));
            text.push_str(CLEAR_LINE);
        }
        text.push_str(CLEAR_REST);
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Waits for the next key, another size, or the end.
    pub async fn event(&mut self) -> ScreenEvent {
        let Self { keys, resized, ends: [interrupt, terminate, hangup] } = self;
        tokio::select! {
            _ = interrupt.recv() => ScreenEvent::End,
            _ = terminate.recv() => ScreenEvent::End,
            _ = hangup.recv() => ScreenEvent::End,
            _ = resized.recv() => ScreenEvent::Redraw,
            key = next_key(keys.as_mut()) => key,
        }
    }
}

/// The next key; never where standard input is no terminal.
async fn next_key(keys: Option<&mut mpsc::Receiver<u8>>) -> ScreenEvent {
    match keys {
        Some(keys) => keys.recv().await.map_or(ScreenEvent::End, ScreenEvent::Key),
        None => std::future::pending().await,
    }
}

/// Reads keys until the terminal is gone. The thread waits for one as long as the process lives, which does not wait for it.
fn read_keys() -> io::Result<mpsc::Receiver<u8>> {
    let (sender, keys) = mpsc::channel(MAX_WAITING_KEYS);
    let read = move || {
        let mut key = [0];
        loop {
            match io::stdin().read(&mut key) {
                Ok(1..) => {
                    let [key] = key;
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(keys)
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn before() -> std::sync::MutexGuard<'static, Option<State>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back as it was; a no-op while no screen is open. Errors are ignored: the terminal may be gone.
fn restore() {
    let Some(State { input }) = before().take() else { return };
    let mut out = io::stdout().lock();
    let _ = out.write_all(LEAVE.as_bytes());
    let _ = out.flush();
    if let Some(input) = input {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &input);
    }
}

/// Restores the terminal before a panic is reported, which would be lost on the second screen.
fn restore_after_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        restore();
        report(panicked);
    }));
}
