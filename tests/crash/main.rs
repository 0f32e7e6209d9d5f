//! Crashes of the daemon, of its disk and of its files: whatever happens, nothing is lost, nothing is
//! renamed, and what is remembered in the end is what an undisturbed run remembers.
//!
//! Needs the emulator, and the fail points that only a build with debug assertions has.
#![cfg(all(feature = "emulator", debug_assertions, target_os = "linux"))]

mod compare;
mod damage;
mod disk;
mod kills;
mod start;
mod stream;
mod world;

#[path = "../support/record.rs"]
mod record;
#[path = "../support/web.rs"]
#[expect(dead_code, reason = "these tests find the port in the log")]
mod web;

#[path = "../deliver/smtp.rs"]
#[expect(
    dead_code,
    reason = "a mail server that can do more than these tests need"
)]
mod smtp;
