//! The emulator over HTTP, as strict clients and broken ones meet it.

mod auth;
mod client;
mod faults;
mod limits;
mod pages;
mod requirements;
mod scripts;
mod streams;
mod work;
