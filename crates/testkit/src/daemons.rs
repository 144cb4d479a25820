//! The real programs, started on free ports in temporary directories and stopped when dropped.

mod mcpd;
mod mcplocal;
mod process;

pub use self::{
    mcpd::{Mcpd, McpdOptions, McpdTls, UNBOUNDED_WRITES},
    mcplocal::{Mcplocal, McplocalOptions},
    process::{OpenFiles, closed_address, eventually, program, within},
};
