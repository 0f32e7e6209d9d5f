//! From the outbox to a receiver, and what people see there: webhooks, mails, terminals.

mod clock;
mod common;
mod email;
mod faults;
mod http;
mod payload;
mod queue;
mod real;
mod render;
mod services;
mod smtp;
