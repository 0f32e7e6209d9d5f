//! Decompresses a file and throws the bytes away: what `.gz` and `.zst` archives cost at least.
//!
//! `inflate FILE`, with the libraries and buffers that replay has. A package of its own, built by
//! run.sh with the versions of the program's Cargo.lock, because it is quick to build so.

use std::fs::File;
use std::io::{BufReader, Read};

use flate2::bufread::MultiGzDecoder;

const COMPRESSED_BUFFER: usize = 256 << 10;
const INFLATED_BUFFER: usize = 1 << 20;

fn main() -> std::io::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        return Err(std::io::Error::other("usage: inflate FILE"));
    };
    let file = BufReader::with_capacity(COMPRESSED_BUFFER, File::open(&path)?);
    let mut inflated: Box<dyn Read> = if path.ends_with(".gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(zstd::stream::read::Decoder::with_buffer(file)?)
    };
    let mut buffer = vec![0; INFLATED_BUFFER];
    let mut bytes = 0;
    loop {
        let read = inflated.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes += read;
        std::hint::black_box(&buffer[..read]);
    }
    println!("{bytes}");
    Ok(())
}
