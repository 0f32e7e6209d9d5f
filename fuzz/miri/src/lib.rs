//! The walker's jump and its look at 64 bytes, with what they stand on, as Lanner has them.

#[path = "../../../src/decode"]
pub mod decode {
    pub mod scan;
    pub mod unescape;
    pub mod walker {
        pub mod block;
        pub mod jump;
    }

    /// What [`unescape`] says of damage; the rest of Lanner knows more kinds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Damage {
        NotJson,
        CutOff,
        NotUtf8,
    }
}

/// Without this, what is asked for could be left out in silence.
#[cfg(target_arch = "x86_64")]
#[test]
fn what_the_build_asks_for_is_run() {
    let asked = cfg!(all(target_feature = "avx2", target_feature = "pclmulqdq"));
    if asked || cfg!(miri) {
        assert_eq!(decode::walker::block::Wide::here().is_some(), asked);
    }
}
