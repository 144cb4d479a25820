//! What killed processes leave behind on the machine, removed by a rule of the program that is supervised.

/// Resources that a process removes when it ends by itself, and leaves behind when it is killed: shared memory, for
/// example.
pub trait Residue: Default + Send + 'static {
    /// Records what these processes hold now. Called before each signal, because it cannot be seen of a killed process.
    fn record(&mut self, pids: &[u32]);

    /// Removes what no living process holds any more. Called when all processes of the program have ended.
    fn remove(self);
}

/// For programs that leave nothing behind.
impl Residue for () {
    fn record(&mut self, _: &[u32]) {}

    fn remove(self) {}
}
