//! What this machine's processor can, as far as results depend on it.

/// The class within which results are the same bytes.
pub fn instruction_class() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let is_v3 = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe");
        if is_v3 { "x86-64-v3" } else { "x86-64" }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}
