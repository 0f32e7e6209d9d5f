//! The whole library as an engine, and what it finds in bytes.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use lanner::config::Config;
use lanner::decode::{Decoder, Payload};
use lanner::detect::load::{Source, load, shipped};
use lanner::detect::occurrence::Place;
use lanner::detect::{Engine, Match, Scratch};
use lanner::event::clock::Clock;
use lanner::source::{Chunk, Framing, Partition};

/// All shipped detectors, hygiene too, at a site that says nothing of itself.
pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
    Engine::new(detectors, Config::defaults().sites())
});

pub static PARTITION: LazyLock<Arc<Partition>> = LazyLock::new(|| {
    Arc::new(Partition {
        source: "fuzz".into(),
        id: "0".into(),
    })
});

pub fn chunk(bytes: &[u8], framing: Framing) -> Chunk {
    Chunk {
        bytes: Bytes::copy_from_slice(bytes),
        position: 3,
        framing,
        enqueued: None,
    }
}

/// A site's detector file as if read from disk.
pub fn source(text: &str) -> Source {
    Source {
        file: "fuzz.toml".to_owned(),
        text: text.to_owned(),
    }
}

/// Every match in `bytes`.
pub fn matches(
    engine: &Engine,
    decoder: &mut Decoder,
    scratch: &mut Scratch,
    bytes: &[u8],
    framing: Framing,
) -> Vec<Match> {
    let mut found = Vec::new();
    decoder.decode(&chunk(bytes, framing), &mut |record| {
        let place = Place {
            partition: &PARTITION,
            position: record.position,
            clock: Clock::default(),
        };
        match &record.payload {
            Payload::Audit(event) => {
                engine.detect(event, &record.origin, place, scratch, &mut found);
            }
            Payload::ApiServer(line) => {
                engine.detect_line(line, &record.origin, place, scratch, &mut found);
            }
            Payload::Nothing(_) => {}
        }
    });
    found
}
