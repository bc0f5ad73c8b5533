/*
 * The button "Dynamics NAV" on the forms of account, contact and user.
 *
 * It reads the records of "NAV Connection" (navcrm_connection): each names a company of the integration service, and
 * the address of the service if it is another than the one below. One company: its NAV opens. Several: the person
 * chooses. Written for every browser and client that CRM knows, the web client of CRM 2016 included.
 */
var NavCrm = (function () {
    "use strict";

    var DEFAULT_SERVICE_URL = "";
    var CHOICE_PAGE = "navcrm_/opennav.html";
    var QUERY = "?$select=navcrm_name,navcrm_company,navcrm_serviceurl&$filter=statecode eq 0&$orderby=navcrm_name asc";
    var NOT_CONFIGURED = "The button is not set up yet: there is no active NAV Connection with a company and the " +
        "address of the integration service. Ask an administrator to add one.";

    /** What the command of the button calls, with the form it stands on. */
    function openFromForm(primaryControl) {
        var xrm = window.Xrm;
        var form = primaryControl && primaryControl.data ? primaryControl : xrm.Page;
        var record = {
            entity: form.data.entity.getEntityName(),
            id: withoutBraces(form.data.entity.getId())
        };
        if (!record.id) {
            tell(xrm, "Save this record first: a new one has nothing in Dynamics NAV yet.");
            return;
        }
        readCompanies(xrm, function (companies) {
            if (companies.length === 0) {
                tell(xrm, NOT_CONFIGURED);
            } else if (companies.length === 1) {
                openUrl(xrm, addressOf(companies[0], record));
            } else {
                openChoice(xrm, record);
            }
        }, function (reason) {
            tell(xrm, reason);
        });
    }

    /** Fills the page on which a person chooses a company. */
    function showCompanies(page, doc) {
        var xrm = xrmOf(page);
        var text = doc.getElementById("text");
        var record = recordIn(page.location.search);
        if (!xrm || !record) {
            text.textContent = "Open this page with the button Dynamics NAV of a record.";
            return;
        }
        readCompanies(xrm, function (companies) {
            text.textContent = companies.length ? "In which company shall the record be opened?" : NOT_CONFIGURED;
            for (var i = 0; i < companies.length; i++) {
                doc.getElementById("companies").appendChild(choice(doc, companies[i], record));
            }
        }, function (reason) {
            text.textContent = reason;
        });
    }

    function choice(doc, company, record) {
        var link = doc.createElement("a");
        link.textContent = company.title;
        link.href = addressOf(company, record);
        link.target = "_blank";
        link.rel = "noopener noreferrer";
        var item = doc.createElement("li");
        item.appendChild(link);
        return item;
    }

    function addressOf(company, record) {
        return company.url + "/open/nav?company=" + encodeURIComponent(company.name) +
            "&entity=" + encodeURIComponent(record.entity) + "&id=" + encodeURIComponent(record.id);
    }

    /** The record that the data parameter of the page names, or null. */
    function recordIn(search) {
        var data = parameter(search, "data");
        var entity = data && parameter("?" + data, "entity");
        var id = data && parameter("?" + data, "id");
        return entity && id ? { entity: entity, id: id } : null;
    }

    function parameter(search, name) {
        var pairs = search.replace(/^\?/, "").split("&");
        for (var i = 0; i < pairs.length; i++) {
            var at = pairs[i].indexOf("=");
            if (pairs[i].substring(0, at).toLowerCase() === name) {
                return decodeURIComponent(pairs[i].substring(at + 1));
            }
        }
        return "";
    }

    /** The companies that can be opened: those with a name and a web address. */
    function companiesIn(rows) {
        var companies = [];
        for (var i = 0; i < rows.length; i++) {
            var name = trimmed(rows[i].navcrm_company);
            var url = trimmed(rows[i].navcrm_serviceurl || DEFAULT_SERVICE_URL).replace(/\/+$/, "");
            if (name && /^https?:\/\/[^\s]+$/i.test(url)) {
                companies.push({ name: name, title: trimmed(rows[i].navcrm_name) || name, url: url });
            }
        }
        return companies;
    }

    function readCompanies(xrm, done, failed) {
        var rowsRead = function (answer) {
            done(companiesIn(answer.entities || answer.value || []));
        };
        var rowsNotRead = function (error) {
            failed("The NAV Connections cannot be read: " + ((error && error.message) || "CRM does not say why.") +
                " An administrator can give you the role NAV CRM Integration User.");
        };
        if (xrm.WebApi) {
            xrm.WebApi.retrieveMultipleRecords("navcrm_connection", QUERY).then(rowsRead, rowsNotRead);
        } else {
            readWithoutWebApi(xrm, rowsRead, rowsNotRead);
        }
    }

    /** CRM 2016 has no Xrm.WebApi. */
    function readWithoutWebApi(xrm, done, failed) {
        var request = new XMLHttpRequest();
        var address = xrm.Page.context.getClientUrl() + "/api/data/v8.2/navcrm_connections";
        request.open("GET", address + QUERY.replace(/ /g, "%20"), true);
        request.setRequestHeader("Accept", "application/json");
        request.setRequestHeader("OData-MaxVersion", "4.0");
        request.setRequestHeader("OData-Version", "4.0");
        request.onreadystatechange = function () {
            if (request.readyState !== 4) {
                return;
            }
            if (request.status === 200) {
                done(JSON.parse(request.responseText));
            } else {
                failed({ message: "CRM answered " + request.status + "." });
            }
        };
        request.send();
    }

    function openUrl(xrm, url) {
        if (xrm.Navigation) {
            xrm.Navigation.openUrl(url);
        } else {
            window.open(url, "_blank");
        }
    }

    function openChoice(xrm, record) {
        var data = "entity=" + encodeURIComponent(record.entity) + "&id=" + encodeURIComponent(record.id);
        if (xrm.Navigation && xrm.Navigation.navigateTo) {
            xrm.Navigation.navigateTo(
                { pageType: "webresource", webresourceName: CHOICE_PAGE, data: data },
                { target: 2, width: { value: 420, unit: "px" }, height: { value: 360, unit: "px" }, title: "Dynamics NAV" }
            );
        } else if (xrm.Navigation) {
            xrm.Navigation.openWebResource(CHOICE_PAGE, { width: 420, height: 360 }, data);
        } else {
            xrm.Utility.openWebResource(CHOICE_PAGE, data, 420, 360);
        }
    }

    function tell(xrm, text) {
        if (xrm.Navigation) {
            xrm.Navigation.openAlertDialog({ text: text, title: "Dynamics NAV" });
        } else {
            xrm.Utility.alertDialog(text);
        }
    }

    /** The API of CRM, which a page of ours has from the window that opened it. */
    function xrmOf(page) {
        return page.Xrm || (page.parent && page.parent.Xrm) || (page.opener && page.opener.Xrm) || null;
    }

    function withoutBraces(id) {
        return (id || "").replace(/[{}]/g, "").toLowerCase();
    }

    function trimmed(text) {
        return (text || "").replace(/^\s+|\s+$/g, "");
    }

    return { openFromForm: openFromForm, showCompanies: showCompanies };
})();
