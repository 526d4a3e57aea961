//! The live view: draws, and listens to keys. The terminal is as before when this returns, and
//! after a panic.

use std::io;
use std::time::Duration;

use anabranch::{Error, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::stage::{Stage, Wish};
use super::until::{End, Until};
use super::view::draw;

/// From one picture to the next.
const FRAME: Duration = Duration::from_millis(100);

/// Shows it until its end.
pub(super) fn show(stage: &mut Stage, until: &Until, colours: bool) -> Result<End> {
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let shown = shown(&mut terminal, stage, until, colours);
    let restored = ratatui::try_restore().map_err(broken);
    let end = shown?;
    restored.map(|()| end)
}

fn shown(
    terminal: &mut DefaultTerminal,
    stage: &mut Stage,
    until: &Until,
    colours: bool,
) -> Result<End> {
    loop {
        let moment = stage.moment()?;
        let drawn = terminal.draw(|frame| draw(frame, &moment, colours));
        drawn.map_err(broken)?;
        stage.trouble()?;
        if let Some(end) = until.end(stage) {
            return Ok(end);
        }
        if event::poll(FRAME).map_err(broken)? {
            match wish(&event::read().map_err(broken)?) {
                Some(Wish::Quit) => return Ok(End::Wished),
                Some(wish) => stage.act(wish)?,
                None => {}
            }
        }
    }
}

/// What an event of the terminal asks for.
fn wish(event: &Event) -> Option<Wish> {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press,
        ..
    }) = event
    else {
        return None;
    };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('l') => Some(Wish::Late),
        KeyCode::Char('p') => Some(Wish::Pause),
        KeyCode::Char('r') => Some(Wish::Rate),
        KeyCode::Char('k') => Some(Wish::Kill),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        _ => None,
    }
}

fn broken(cause: io::Error) -> Error {
    Error::operating("the terminal").because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let press = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |key| press(KeyCode::Char(key), KeyModifiers::NONE);
        assert_eq!(
            ['l', 'p', 'r', 'k', 'q', 'x', 'c'].map(plain),
            [
                Some(Wish::Late),
                Some(Wish::Pause),
                Some(Wish::Rate),
                Some(Wish::Kill),
                Some(Wish::Quit),
                None,
                None
            ]
        );
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), Some(Wish::Quit));
        let control_c = press(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(control_c, Some(Wish::Quit));
        assert_eq!(wish(&Event::Resize(1, 1)), None);
    }
}
