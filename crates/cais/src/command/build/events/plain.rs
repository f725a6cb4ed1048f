//! BuildKit's plain style: a line for everything, with the number of its step before it.

use super::{End, Vertex, say};

#[derive(Default)]
pub(super) struct Plain {
    /// The number of the step that the last line was about.
    current: Option<usize>,
}

impl Plain {
    /// Something that is done already.
    pub(super) fn internal(&mut self, vertex: &Vertex, what: &str) {
        self.turn(vertex);
        let lines: String =
            what.lines().map(|line| format!("#{} {line}\n", vertex.number)).collect();
        say(&format!("{lines}#{} DONE 0.0s\n\n", vertex.number));
        self.current = None;
    }

    /// Makes a step the one that lines are about.
    pub(super) fn turn(&mut self, vertex: &Vertex) {
        if self.current == Some(vertex.number) {
            return;
        }
        if let Some(number) = self.current.replace(vertex.number) {
            // It goes on, out of sight.
            say(&format!("#{number} ...\n\n"));
        }
        say(&format!("#{} {}\n", vertex.number, vertex.name));
    }

    pub(super) fn output(&mut self, vertex: &Vertex, line: &str) {
        self.turn(vertex);
        say(&format!("#{} {line}\n", vertex.number));
    }

    pub(super) fn end(&mut self, vertex: &Vertex, how: &End<'_>) {
        self.turn(vertex);
        let how = match how {
            End::Done(took) => format!("DONE {}", engine::seconds(*took)),
            End::Cached => "CACHED".to_owned(),
            End::SameAs(number) => format!("the same as #{number}"),
            End::Failed(why) => format!("ERROR: {why}"),
        };
        say(&format!("#{} {how}\n\n", vertex.number));
        self.current = None;
    }
}
