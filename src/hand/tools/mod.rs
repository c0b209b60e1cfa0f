//! The tools of `agent_toolset_20260401` that run in a sandbox.
//!
//! They follow the recorded behaviour of the official Python toolset, with its built-in search, except
//! where this table says otherwise. Every difference is deliberate.
//!
//! | Tool | Official | Here | Why |
//! |---|---|---|---|
//! | bash | after a timeout or the end of the shell every call fails until a restart | the next call gets a new shell and its output begins with a line that says so | the agent can go on, and knows what is lost |
//! | bash | a timeout kills the shell alone and its output is lost | it kills every process of the shell's session, and the output so far is part of the answer | nothing runs on unseen; the output says what hung |
//! | bash | an unclosed quote, here-document or block waits for the timeout | it is noticed after two seconds | two minutes are a long wait for a typo |
//! | bash | a shell whose output was redirected (`exec >file`) never ends a call | the end of a call is told on a channel of its own | redirection is the agent's own business |
//! | bash | a command that is only a comment ends the shell | it does nothing | there is nothing wrong with it |
//! | bash | a shell killed by a signal answers with its output alone | a last line names the signal | running out of memory should be seen |
//! | bash | output is cut at a byte | it is cut at a character | no broken first character |
//! | bash | a NUL in a command is left out | the command is refused | what was asked for cannot be run |
//! | read, edit | a path that is swapped for a link between check and use is followed | it is not | nothing outside may be reached |
//! | write, edit | files are written in place | a new file is moved over the old one; permission bits are kept | nobody reads half a file, and a full disk costs nothing |
//! | write | counts characters | counts bytes | it says "bytes" |
//! | edit | an empty `old_string` matches between all characters | is refused | it is a mistake |
//! | glob | `{a,b}` is literal | gives alternatives | the tool's description promises it |
//! | glob | a pattern ending in `**` lists folders only | lists files too | so does every other tool |
//! | glob | stops silently at 200 results or 50,000 entries | a last line says so | the agent should not take a part for the whole |
//! | grep | Python expressions, or those of an `rg` found on the path | always those of Rust's `regex`, in linear time | the same answer everywhere, and no expression that hangs |
//! | grep | a timeout loses what was found | what was found comes with the error | it may be enough |
//! | grep | searches 50,000 entries and stops silently | a last line says so | as for glob |

mod arguments;
pub(crate) mod bash;
mod edit;
mod failure;
mod glob;
mod grep;
pub(crate) mod limits;
mod read;
mod toolset;
mod walk;
mod write;

pub(crate) use failure::reason;
pub(crate) use toolset::{FileTool, Tool};

/// What `glob` and `grep` answer when there is nothing.
const NO_MATCHES: &str = "no matches";
