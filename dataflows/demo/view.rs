//! Draws a moment. Whatever the size of the terminal: what does not fit is left out from below, but
//! never the keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::model::Model;
use super::text::wrapped;

/// Draws `model`; without `colours`, bold and dim are all there is.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, colours: bool) {
    let area = frame.area();
    let width = usize::from(area.width);
    let keys = styled(
        &model.keys(),
        width,
        Style::new().add_modifier(Modifier::BOLD),
    );
    let keys_height = u16::try_from(keys.len()).unwrap_or(1).min(area.height);
    let above = area.height - keys_height;
    let mut body = lines(model, width, colours);
    body.truncate(usize::from(above));
    let place = |y: u16, height: u16| Rect::new(area.x, area.y + y, area.width, height);
    frame.render_widget(Paragraph::new(body), place(0, above));
    frame.render_widget(Paragraph::new(keys), place(above, keys_height));
}

fn lines(model: &Model, width: usize, colours: bool) -> Vec<Line<'static>> {
    let colour = |colour: Color| {
        let style = Style::new();
        if colours { style.fg(colour) } else { style }
    };
    let (plain, dim) = (Style::new(), Style::new().add_modifier(Modifier::DIM));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = styled(&model.title(), width, bold);
    lines.extend(styled(&Model::setup(), width, dim));
    lines.push(Line::default());
    let balance = format!("{}   {}", model.balance(), model.speed());
    lines.extend(styled(&balance, width, colour(Color::Green)));
    lines.extend(styled(&model.watermark(), width, colour(Color::Cyan)));
    if let Some(recovery) = &model.recovery {
        lines.extend(styled(recovery, width, colour(Color::Magenta)));
    }
    lines.push(Line::default());
    let letters = [
        (&model.seen.late, Color::Yellow),
        (&model.seen.dead, Color::Red),
    ];
    for (letter, its_colour) in letters {
        let text = letter.as_deref().unwrap_or_default();
        lines.push(cut(text, width, colour(its_colour)));
    }
    lines.push(Line::default());
    let count = super::text::grouped(model.seen.results);
    let heading = format!("results {count}, the newest on top:");
    lines.extend(styled(&heading, width, dim));
    let results = model.seen.latest.iter();
    lines.extend(results.map(|result| cut(result, width, plain)));
    lines
}

fn styled(text: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    let lines = wrapped(text, width).into_iter();
    lines.map(|line| Line::styled(line, style)).collect()
}

/// One line, cut where the terminal ends: these come and go, and what is below must not jump.
fn cut(text: &str, width: usize, style: Style) -> Line<'static> {
    let line: String = text.chars().take(width).collect();
    Line::styled(line, style)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::model::tests::moment;
    use super::*;

    fn drawn(model: &Model, width: u16, height: u16, colours: bool) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, colours)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        let row = |y| -> String {
            let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect()
    }

    #[test]
    fn everything_fits_into_80_columns_and_24_lines() {
        let rows = rows(&drawn(&moment(), 80, 24, true));
        let all = rows.join("\n");
        for part in [
            "anabranch demo · user_activity · 2 workers · Kafka on 127.0.0.1:40123",
            "kcat -b 127.0.0.1:40123",
            "read 412,880 = used 409,101 + duplicates 3,377 + late 214 + dead 88 + held 100",
            "9,987/s",
            "watermark 12:00:00 (2.1 s behind)",
            "events[2] idle",
            "recovered from checkpoint 41 in 0.4 s: 0 lost, 0 twice",
            "late u-0092 by 3.4 s (events[1]@88121)",
            "dead events[0]@90211 decode: not JSON",
            "u-0000  12:00:00",
            "u-0007  12:00:00",
        ] {
            assert!(all.contains(part), "{part}\n{all}");
        }
        assert!(all.contains("[q] quit"), "{all}");
        assert!(all.find("u-0000") < all.find("u-0007"), "{all}");
    }

    #[test]
    fn a_wide_terminal_has_each_thing_in_one_line_and_the_keys_at_its_end() {
        let rows = rows(&drawn(&moment(), 200, 60, true));
        assert!(rows[0].ends_with("-t user-activity)"), "{rows:?}");
        assert!(rows[4].ends_with("next closes 12:00:05"), "{rows:?}");
        assert!(rows[59].starts_with("[l] send a late event   [p] resume events[2] (1,234 wait)"));
    }

    #[test]
    fn the_smallest_terminal_still_has_the_keys() {
        for (width, height) in [(1, 1), (3, 2), (10, 3), (80, 1)] {
            drawn(&moment(), width, height, true);
        }
        let rows = rows(&drawn(&moment(), 80, 2, true));
        assert!(rows[1].ends_with("[q] quit"), "{rows:?}");
    }

    #[test]
    fn without_colours_no_cell_has_one() {
        let coloured = |colours| {
            let buffer = drawn(&moment(), 80, 24, colours);
            buffer.content.iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(coloured(true));
        assert!(!coloured(false));
    }
}
