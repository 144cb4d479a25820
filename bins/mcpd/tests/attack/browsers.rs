//! What a web page may do: foreign hosts and origins, forms, scripts.
