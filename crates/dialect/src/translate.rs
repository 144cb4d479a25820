//! Translates between dialects by way of forms that belong to none: a [`Conversation`](conversation::Conversation) for a
//! request, a [`Reply`](reply::Reply) for a whole answer, [`Delta`](reply::Delta)s for a stream. Each dialect has readers into
//! these forms and writers out of them, so that a new dialect needs no knowledge of the others.

pub mod chat;
pub mod conversation;
pub mod messages;
pub mod reply;
pub mod responses;
pub mod resume;

mod call_queue;
mod dialects;
mod fields;
mod translation;

pub use dialects::{DeltaReader, DeltaWriter};
pub use translation::{
    AnswerTranslation, StreamTranslation, TranslatedRequest, Translation, Untranslatable, error_body,
    error_event,
};
