//! The `$JS.API` interface: how requests are addressed, read and answered. The rules of what a
//! request may ask are in `model`; what it changes is done by the engine.
