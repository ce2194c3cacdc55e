//! Tests of whole bundles.

mod damage;
mod forgery;
mod golden;
mod judgement;
