from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # An index that is built beside the running application has no transaction around it.
    atomic = False
    dependencies = [("farm", "0002_animals")]
    operations = [AddIndexConcurrently("Animal", models.Index(fields=["day"], name="animal_day"))]
