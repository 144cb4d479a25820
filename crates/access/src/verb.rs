//! Verbs as types, so that a [`Permit`](crate::Permit) for one verb is not a permit for another.

use mcpctl_api::Verb;

/// A verb as a type.
pub trait VerbType: sealed::Sealed + Send + Sync + 'static {
    /// The verb.
    const VERB: Verb;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! verb_types {
    ($($verb:ident)*) => { $(
        #[doc = concat!("[`Verb::", stringify!($verb), "`] as a type.")]
        #[derive(Debug)]
        pub enum $verb {}

        impl sealed::Sealed for $verb {}

        impl VerbType for $verb {
            const VERB: Verb = Verb::$verb;
        }
    )* };
}

verb_types!(View Run Edit Delete);
