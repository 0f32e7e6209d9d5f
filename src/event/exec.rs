//! Facts of exec.
