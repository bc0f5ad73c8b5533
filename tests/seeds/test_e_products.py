"""The pages that the five link to: currencies, units, items and resources."""

import pytest

from tests.seeds.world import World

pytestmark = pytest.mark.anyio
MAPPINGS = "integration-table-mappings"
FULL = {"mode": "full"}
ROW = {"items": "Description", "resources": "Name"}


async def test_E_32_currencies_are_matched_by_their_iso_code(world: World) -> None:
    euro = await world.crm.create(
        "transactioncurrencies",
        isocurrencycode="EUR",
        currencyname="Euro",
        currencysymbol="€",
        exchangerate=1.2,
        currencyprecision=2,
    )
    await world.new("currencies", "EUR", Description="Euro", ISO_Code="EUR")
    await world.coupled_customer()
    person = await world.person("10000", Currency_Code="EUR")
    made = await world.post(f"nav/contacts/{person}/create-in-crm")
    row = await world.crm.row("contacts", made["coupling"]["crm_id"])
    assert row["_transactioncurrencyid_value"] == euro
    assert await world.partner("currencies", "EUR") == euro


async def test_E_42_currencies_only_go_to_crm(world: World) -> None:
    await world.new("currencies", "EUR", Description="Euro", ISO_Code="EUR")
    path = "nav/currencies/EUR/synchronize"
    assert (await world.refused("POST", path, {"direction": "from_crm"})).said == (
        422,
        "direction-not-allowed",
    )
    base = world.crm.organization.base_currency
    body = {"crm_id": base, "synchronize_after_coupling": "crm_data"}
    refused = await world.refused("PUT", "nav/currencies/EUR/coupling", body)
    assert refused.said == (422, "direction-not-allowed")
    assert "nav_data" in refused.text


async def test_E_45_the_unit_goes_along_to_the_group_of_its_name_and_need_not_be_coupled(
    world: World,
) -> None:
    await world.new("units-of-measure", "PCS", Description="Piece")
    await world.new("items", "1000", Description="Bicycle", Base_Unit_of_Measure="PCS")
    before = await world.everything()
    refused = await world.refused("POST", "nav/items/1000/create-in-crm")
    assert (refused.status, "NAV PCS" in refused.text) == (422, True)
    assert await world.everything() == before
    assert await world.crm.rows("products") == []
    group = await world.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")
    made = await world.post("nav/items/1000/create-in-crm")
    row = await world.crm.row("products", made["coupling"]["crm_id"])
    assert (row["productnumber"], row["name"]) == ("1000", "Bicycle")
    assert row["_defaultuomscheduleid_value"] == group
    assert await world.partner("units-of-measure", "PCS") is None


async def test_E_33_a_unit_group_with_two_units_is_refused_by_its_name(world: World) -> None:
    await world.new("units-of-measure", "PCS", Description="Piece")
    await world.new("items", "1000", Description="Bicycle", Base_Unit_of_Measure="PCS")
    group = await world.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")
    (unit,) = await world.crm.rows("uoms", f"_uomscheduleid_value eq {group}")
    bound = {
        "uomscheduleid@odata.bind": f"/uomschedules({group})",
        "baseuom@odata.bind": f"/uoms({unit['uomid']})",
    }
    await world.crm.create("uoms", name="BOX", quantity=10, **bound)
    refused = await world.refused("POST", "nav/items/1000/create-in-crm")
    assert refused.said == (422, "unit-group-invalid")
    assert "NAV PCS" in refused.text
    assert await world.crm.rows("products") == []


async def test_E_33_the_unit_itself_is_not_synchronized_with_such_a_group_either(world: World) -> None:
    await world.new("units-of-measure", "PCS", Description="Piece")
    group = (await world.post("nav/units-of-measure/PCS/create-in-crm"))["coupling"]["crm_id"]
    (unit,) = await world.crm.rows("uoms", f"_uomscheduleid_value eq {group}")
    await world.crm.change("uoms", unit["uomid"], name="Piece")
    done = await world.post("nav/units-of-measure/PCS/synchronize")
    assert (done["action"], [(c["field"], c["old"], c["new"]) for c in done["changes"]]) == (
        "modified",
        [("uom.name", "Piece", "PCS")],
    )
    bound = {
        "uomscheduleid@odata.bind": f"/uomschedules({group})",
        "baseuom@odata.bind": f"/uoms({unit['uomid']})",
    }
    await world.crm.create("uoms", name="BOX", quantity=10, **bound)
    refused = await world.refused("POST", "nav/units-of-measure/PCS/synchronize")
    assert refused.said == (422, "unit-group-invalid")


async def test_E_32_a_currency_without_an_iso_code_is_left_out_with_the_reason(at_work: World) -> None:
    fields = await at_work.items(f"{MAPPINGS}/CURRENCY/fields")
    known_by = next(row["id"] for row in fields if row["crm_attribute"] == "isocurrencycode")
    await at_work.patch(f"{MAPPINGS}/CURRENCY/fields/{known_by}", {"nav_field": "ISO_Code"})
    await at_work.new("currencies", "BARTER", Description="Goods for goods")
    job = await at_work.job(f"{MAPPINGS}/CURRENCY/synchronize", FULL | {"create_uncoupled": True})
    (outcome,) = await at_work.outcomes(job)
    assert (outcome["nav_no"], outcome["action"]) == ("BARTER", "skipped")
    assert outcome["reason"] == "currency-without-iso"
    assert len(await at_work.crm.rows("transactioncurrencies")) == 1


async def two_items(world: World) -> None:
    """Two items with prices, and the unit group that they need in CRM."""
    await world.new("units-of-measure", "PCS", Description="Piece")
    for no, price in (("1000", 4000), ("1100", 50)):
        await world.new("items", no, Description=f"Item {no}", Base_Unit_of_Measure="PCS", Unit_Price=price)
    await world.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")


async def test_E_34_the_default_price_list_is_made_once(world: World) -> None:
    await two_items(world)
    for no in ("1000", "1100"):
        await world.post(f"nav/items/{no}/create-in-crm")
    (price_list,) = await world.crm.rows("pricelevels")
    prices = await world.crm.rows("productpricelevels")
    assert {price["_pricelevelid_value"] for price in prices} == {price_list["pricelevelid"]}
    assert sorted(price["amount"] for price in prices) == [50, 4000]


async def test_E_44_a_product_comes_with_its_price_in_the_default_price_list(world: World) -> None:
    await two_items(world)
    made = await world.post("nav/items/1000/create-in-crm")
    product = made["coupling"]["crm_id"]
    (price_list,), (price,) = await world.crm.rows("pricelevels"), await world.crm.rows("productpricelevels")
    row = await world.crm.row("products", product)
    assert row["_pricelevelid_value"] == price_list["pricelevelid"]
    assert (price["_productid_value"], price["amount"]) == (product, 4000)
    await world.change("items", "1000", Unit_Price=4500)
    await world.post("nav/items/1000/synchronize", {"direction": "to_crm"})
    (price,) = await world.crm.rows("productpricelevels")
    assert (price["amount"], (await world.crm.row("products", product))["price"]) == (4500, 4500)


async def test_E_44_synchronize_now_puts_a_price_right_that_was_changed_in_crm_alone(world: World) -> None:
    await two_items(world)
    await world.post("nav/items/1000/create-in-crm")
    (price,) = await world.crm.rows("productpricelevels")
    now = ("nav/items/1000/synchronize", {"direction": "to_crm"})
    await world.crm.change("productpricelevels", price["productpricelevelid"], amount=99)
    done = await world.post(*now)
    assert (done["action"], done["changes"]) == (
        "modified",
        [{"side": "crm", "field": "productpricelevel.amount", "old": 99, "new": 4000}],
    )
    await world.crm.delete("productpricelevels", price["productpricelevelid"])
    assert (await world.post(*now))["action"] == "modified"
    (price,) = await world.crm.rows("productpricelevels")
    assert price["amount"] == 4000
    assert (await world.post(*now))["action"] == "unmodified"


async def one(world: World, table: str = "items", no: str = "1000") -> str:
    """An item or a resource in the unit PCS, which has its group in CRM; its address."""
    if not await world.crm.rows("uomschedules", "name eq 'NAV PCS'"):
        await world.new("units-of-measure", "PCS", Description="Piece")
        await world.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")
    await world.new(table, no, **{ROW[table]: "Bicycle"}, Base_Unit_of_Measure="PCS", Unit_Price=4000)
    return f"nav/{table}/{no}"


@pytest.mark.parametrize("table", ["items", "resources"])
async def test_E_43_items_and_resources_only_go_to_crm(world: World, table: str) -> None:
    path = await one(world, table)
    product = (await world.post(f"{path}/create-in-crm"))["coupling"]["crm_id"]
    refused = await world.refused("POST", f"{path}/synchronize", {"direction": "from_crm"})
    assert refused.said == (422, "direction-not-allowed")
    await world.change(table, "1000", **{ROW[table]: "Racer"})
    sent = await world.post(f"{path}/synchronize")
    assert (sent["action"], (await world.crm.row("products", product))["name"]) == ("modified", "Racer")
    body = {"crm_id": product, "synchronize_after_coupling": "crm_data"}
    refused = await world.refused("PUT", f"{path}/coupling", body)
    assert refused.said == (422, "direction-not-allowed")
    assert "nav_data" in refused.text
    body = {"crm_id": product, "synchronize_after_coupling": "nav_data"}
    assert (await world.put(f"{path}/coupling", body))["synchronization"]["action"] == "unmodified"
    actions = {action["name"]: action for action in (await world.get(path))["actions"]}
    assert actions["synchronize_to_crm"]["allowed"] is True
    assert actions["synchronize_from_crm"]["allowed"] is False
    assert "to_crm" in actions["synchronize_from_crm"]["reason"]
    refused = await world.refused(
        "POST", f"nav/{table}/synchronize", {"nos": ["1000"], "direction": "from_crm"}
    )
    assert refused.said == (422, "direction-not-allowed")


@pytest.mark.parametrize("table", ["items", "resources"])
async def test_E_43_they_need_a_unit_that_crm_has(world: World, table: str) -> None:
    await world.new("units-of-measure", "PCS", Description="Piece")
    await world.new(table, "1000", Base_Unit_of_Measure="PCS")
    refused = await world.refused("POST", f"nav/{table}/1000/create-in-crm")
    assert refused.status == 422
    assert "NAV PCS" in refused.text


async def test_E_43_products_do_not_become_items(world: World) -> None:
    path = await one(world)
    product = (await world.post(f"{path}/create-in-crm"))["coupling"]["crm_id"]
    await world.ask("DELETE", f"{path}/coupling")
    refused = await world.refused("POST", f"crm/products/{product}/create-in-nav")
    assert refused.said == (422, "create-not-supported")


async def test_E_44_the_result_lists_the_three_records_that_were_written(world: World) -> None:
    made = await world.post(f"{await one(world)}/create-in-crm")
    told = {change["field"]: change["new"] for change in made["changes"]}
    (price_list,), (price,) = await world.crm.rows("pricelevels"), await world.crm.rows("productpricelevels")
    assert made["coupling"]["crm_id"] == (await world.crm.rows("products"))[0]["productid"]
    assert price_list["pricelevelid"] in str(told["pricelevelid"])
    assert price["productpricelevelid"] in str(told["productpricelevel.productpricelevelid"])


@pytest.mark.parametrize("missing", ["prvCreateProductPriceLevel", "prvCreatePriceLevel"])
async def test_E_44_a_product_whose_price_is_refused_is_not_there_either(world: World, missing: str) -> None:
    path = await one(world)
    world.crm.organization.revoke(missing)
    refused = await world.refused("POST", f"{path}/create-in-crm")
    assert (refused.status, missing in refused.text) == (502, True)
    for entity_set in ("products", "productpricelevels"):
        assert await world.crm.rows(entity_set) == []
    assert await world.partner("items", "1000") is None
    world.crm.organization.grant(missing)
    await world.post(f"{path}/create-in-crm")
    assert [len(await world.crm.rows(s)) for s in ("products", "productpricelevels")] == [1, 1]


async def test_E_46_a_product_is_not_created_twice(world: World) -> None:
    path = await one(world)
    product = (await world.post(f"{path}/create-in-crm"))["coupling"]["crm_id"]
    for method, address, body in (
        ("POST", f"{path}/create-in-crm", None),
        ("PUT", f"{path}/coupling", {"create_new": True}),
    ):
        refused = await world.refused(method, address, body)
        assert refused.said == (409, "already-coupled")
        assert product in refused.text
    await world.delete(f"{path}/coupling")
    for method, address, body in (
        ("POST", f"{path}/create-in-crm", None),
        ("PUT", f"{path}/coupling", {"create_new": True}),
    ):
        refused = await world.refused(method, address, body)
        assert refused.said == (409, "already-exists"), refused.text
        assert product in refused.text
        assert f"{path}/coupling" in refused.text
    assert len(await world.crm.rows("products")) == 1
    assert await world.partner("items", "1000") is None
    await world.put(f"{path}/coupling", {"crm_id": product})
    assert await world.partner("items", "1000") == product


async def test_E_47_a_unit_of_measure_is_coupled_with_a_group_of_one_unit(world: World) -> None:
    await world.new("units-of-measure", "PCS", Description="Piece")
    path = "nav/units-of-measure/PCS"
    group = await world.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")
    (unit,) = await world.crm.rows("uoms", f"_uomscheduleid_value eq {group}")
    bound = {
        "uomscheduleid@odata.bind": f"/uomschedules({group})",
        "baseuom@odata.bind": f"/uoms({unit['uomid']})",
    }
    second = await world.crm.create("uoms", name="BOX", quantity=10, **bound)
    body = {"crm_id": group, "synchronize_after_coupling": "nav_data"}
    refused = await world.refused("PUT", f"{path}/coupling", body)
    assert refused.said == (422, "unit-group-invalid")
    assert "NAV PCS" in refused.text
    await world.crm.delete("uoms", second)
    await world.ask("DELETE", f"{path}/coupling")
    assert (await world.put(f"{path}/coupling", body))["coupling"]["crm_id"] == group
    assert [row["name"] for row in await world.crm.rows("uoms", f"_uomscheduleid_value eq {group}")] == [
        "PCS"
    ]
