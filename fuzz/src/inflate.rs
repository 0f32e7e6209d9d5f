//! A file of any content: plain, compressed, cut off, a bomb; memory stays flat, and what was given
//! out stands where it says.

use std::io::Write;

use lanner::source::archive::{ArchiveOptions, inputs};

pub fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(data).expect("there is room for a file");
    let path = file.path().to_str().expect("the name is plain").to_owned();
    let options = ArchiveOptions {
        block: 4 << 10,
        max_record: 64 << 10,
        max_inflated: 4 << 20,
        max_ratio: 100,
        ratio_from: 256 << 10,
    };
    for input in inputs(&[path]).expect("the file is there") {
        let Ok(mut reader) = input.open(&options) else {
            continue;
        };
        let mut at = 0;
        let mut given = 0;
        let mut errors = 0;
        loop {
            match reader.next_batch() {
                Ok(None) => break,
                Ok(Some(batch)) => {
                    assert!(batch.from.0 >= at && batch.to.0 >= batch.from.0);
                    at = batch.to.0;
                    for chunk in &batch.chunks {
                        given += chunk.bytes.len() as u64;
                        let limit = options.max_record + options.block;
                        assert!(chunk.bytes.len() <= limit.max(64 << 10) + options.block);
                    }
                }
                Err(_) => {
                    errors += 1;
                    assert!(
                        errors <= given + data.len() as u64 + 2,
                        "errors without end"
                    );
                }
            }
        }
        assert!(given <= options.max_inflated.max(data.len() as u64));
    }
}
