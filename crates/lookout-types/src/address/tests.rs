//! EIP-55 vectors and the messages for each wrong form.

use super::*;

#[track_caller]
fn check(text: &str, strict: Result<(), &str>) {
    let found = Address::parse_checksummed(text).map(|a| assert_eq!(a.to_string(), text));
    assert_eq!(found.map_err(|e| e.to_string()), strict.map_err(str::to_owned));
}

#[test]
fn the_vectors_of_eip_55_are_accepted() {
    for good in [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0xc94770007dda54cF92009BFF0dE90c06F603a09f",
    ] {
        check(good, Ok(()));
    }
}

#[test]
fn each_wrong_form_is_named() {
    check("c94770007dda54cF92009BFF0dE90c06F603a09f", Err("an address starts with `0x`"));
    check("0xc947", Err("an address has 40 hex digits after `0x`, this one has 4"));
    check("0x", Err("an address has 40 hex digits after `0x`, this one has 0"));
    check(
        "0xg94770007dda54cF92009BFF0dE90c06F603a09f",
        Err("`g` at position 3 is not a hex digit"),
    );
    check(
        "0xc94770007dda54cF92009BFF0dE90c06F603a0é",
        Err("`é` at position 41 is not a hex digit"),
    );
    let right = "the EIP-55 checksum is wrong; the right form is \
                 0xc94770007dda54cF92009BFF0dE90c06F603a09f";
    check("0xc94770007dDa54cF92009BFF0dE90c06F603a09f", Err(right));
    check("0xc94770007dda54cf92009bff0de90c06f603a09f", Err(right));
    check("0XC94770007DDA54CF92009BFF0DE90C06F603A09F", Err("an address starts with `0x`"));
}

#[test]
fn lenient_accepts_one_case_but_no_wrong_checksum() {
    let right: Address = "0xc94770007dda54cF92009BFF0dE90c06F603a09f".parse().unwrap();
    assert_eq!("0xc94770007dda54cf92009bff0de90c06f603a09f".parse(), Ok(right));
    assert_eq!("0xC94770007DDA54CF92009BFF0DE90C06F603A09F".parse(), Ok(right));
    assert_eq!(
        "0xc94770007dDa54cF92009BFF0dE90c06F603a09f".parse::<Address>(),
        Err(AddressError::Checksum { right })
    );
}

#[test]
fn hashes_round_trip() {
    let text = format!("0x{}", "0f".repeat(32));
    assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
    for bad in ["", "0x", "0x0f", text.trim_start_matches("0x"), &format!("{text}00")] {
        assert_eq!(bad.parse::<Hash>(), Err(HashError), "{bad}");
    }
}
