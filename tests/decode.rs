//! Every form in which a record comes is told apart, and what is damaged is judged as far as it goes.

mod decode {
    pub mod forms;
    pub mod hostile;
    pub mod property;
    pub mod support;
}
