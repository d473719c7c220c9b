"""Why payments fail: taxonomy, known codes of gateways, text model, retry rules; never messages, storage or a clock.

Start at ``ml.failures.classifier``::

    from ml.failures.classifier import FailureModel
    from ml.failures.codes import KnownCode

    model = FailureModel.shipped()  # the code tables and phrases that come with the package
    model = FailureModel.trained_on(rows)  # words learned from rows of KnownCode as well; no code tables
    verdicts = model.classify_many([{"system": "newpay", "code": "X-02", "message": "Card expired"}])
    verdicts[0].category, verdicts[0].retry, verdicts[0].confidence, verdicts[0].evidence
"""
