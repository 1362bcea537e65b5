//! `em.sum/1`: the partial sums of one half-set, added in their order.

use crate::{Sum, images::bad};
use dewar_compute::reconstruct::{Partial, Sums};
use dewar_proto::em::v1;
use dewar_task::{Context, Kernel, Product, RunError, instruction_class};

impl Kernel for Sum {
    fn run(
        &self,
        _: v1::SumParameters,
        context: &Context,
    ) -> Result<Product<v1::SumOutput>, RunError> {
        let mut total: Option<Sums> = None;
        for index in 0..context.input_count() {
            context.check()?;
            let bytes = context.input(index)?.read_all()?;
            let partial =
                Partial::of(&bytes).map_err(|error| bad(format!("input {index}: {error}")))?;
            total
                .get_or_insert_with(|| Sums::new(partial.shape()))
                .add_partial(&partial)
                .map_err(|error| bad(format!("input {index}: {error}")))?;
            context.set_progress((index + 1) as f32 / context.input_count() as f32);
        }
        let total = total.ok_or_else(|| bad("there are no partial sums to add"))?;
        Ok(Product {
            message: v1::SumOutput {
                partial_count: context.input_count() as u32,
                instruction_class: instruction_class().to_owned(),
            },
            blobs: vec![total.to_bytes().into()],
        })
    }
}
