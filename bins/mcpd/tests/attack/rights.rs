//! Rights by way of groups, bindings, future accounts and the last administrator.
