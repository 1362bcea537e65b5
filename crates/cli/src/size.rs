//! Sizes as people read them; exact ones are in the JSON.

pub use dewar_settings::rounded_size as rounded;
